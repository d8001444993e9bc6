"""Methods that hold beliefs, and small runs of these, of toys and of shipped methods."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from runs import prepare_run
from toy_methods import Diverging, Toy, Twins

from ncbench import Method, Rematches
from ncbench.backbones.graph import SGR
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import rematch_quality
from ncbench.method.registry import load_method
from ncbench.training.run import Run


class Believer(Toy):
    """Holds beliefs that take a forward pass to tell."""

    name = "believer"

    def pair_scores(self) -> np.ndarray:
        self._forward()
        return np.linspace(0, 1, len(self.task.data))

    def soft_labels(self) -> np.ndarray:
        self._forward()
        return np.linspace(0, 1, len(self.task.data)) ** 2

    def rematches(self) -> Rematches:
        self._forward()
        return Rematches(np.array([0, 5, 7]), np.array([0, 1, 3]), np.array([1.0, 0.5, 0.0]))

    def _forward(self) -> None:
        batch = self.task.data.batch(np.arange(len(self.task.data)))
        self.nets[0](*batch.inputs)


class Doubter(Believer):
    """Holds other beliefs for each member of an ensemble: in all pairs for SAF, and rematches for SGR only."""

    name = "doubter"

    def pair_scores(self) -> np.ndarray:
        return super().pair_scores() if self._is_sgr else np.ones(len(self.task.data))

    def soft_labels(self) -> np.ndarray:
        return super().soft_labels() if self._is_sgr else np.ones(len(self.task.data))

    def rematches(self) -> Rematches | None:
        return super().rematches() if self._is_sgr else None

    @property
    def _is_sgr(self) -> bool:
        return isinstance(self.nets[0], SGR)


def stated(run: Run) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The scores and the rematches of Believer, with the numbers of the dataset."""
    numbering = run.numbering
    scores = np.empty(48)
    scores[numbering.captions] = np.linspace(0, 1, 48)
    captions, images = numbering.captions[[0, 5, 7]], numbering.images[[0, 1, 3]]
    order = np.argsort(captions)  # as records have them
    return scores, (captions[order], images[order], np.array([1.0, 0.5, 0.0])[order])


def method_of(name: str) -> type[Method]:
    mine = {method.name: method for method in (Toy, Twins, Believer, Diverging, Doubter)}
    return mine[name] if name in mine else load_method(name)


def prepare(dataset: Dataset, folder: Path, method: str = "triplet", backbone: str = "vse", **changes: Any) -> Run:
    return prepare_run(dataset, folder, method_of(method), backbone, **changes)


def execute(*arguments: Any, **changes: Any) -> tuple[Run, dict[str, Any]]:
    run = prepare(*arguments, **changes)
    return run, run.execute().to_dict()


def scored(run: Run) -> np.ndarray:
    """The similarities of test as the run scores them."""
    with run.assessment.similarities("test") as similarities:
        assert isinstance(similarities, np.ndarray)
        return similarities


def judged_rematches(run: Run, dataset: Dataset, members: int = 1) -> dict[str, Any]:
    """The quality of Believer's rematches, which so many members hold."""
    _, rematches = stated(run)
    parts = [np.tile(part, members) for part in rematches]
    close = dataset.semantics.closeness
    return asdict(rematch_quality(*parts, run.noise.claimed, lambda c, i: close("train", c, i), 24))
