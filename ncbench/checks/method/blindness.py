"""Whether a method can know what is hidden from it: which pairs are clean, the true ratio, dev and test.

Two ways are tried. From all that a method is handed and holds, references are followed as far as they lead. And what is
hidden is changed behind its back: the same claimed pairs with another truth, another ratio, another dev and test split
must train the same weights, to the last bit. A method that looks elsewhere, through frames or files, betrays itself so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.checks.method.candidate import RATIO, SHORT, Candidate
from ncbench.checks.method.reach import reachable
from ncbench.checks.method.sameness import differences
from ncbench.checks.shapes import Shapes
from ncbench.checks.verdicts import Check, Failed, Skipped
from ncbench.data.dataset import Dataset, IntVector, Split
from ncbench.method.base import Method, Task
from ncbench.noise.base import Noise
from ncbench.records.spec import RunSpec
from ncbench.training.run import Run
from ncbench.training.trainer import Trainer

OTHER_RATIO = 0.6
OTHER_SEED = 1
KEEPERS = {
    Run: "the run with all that it knows",
    Trainer: "the trainer, which knows the run",
    RunSpec: "what defines the run, its noise ratio included",
    Noise: "the noise, its ratio included",
    Dataset: "the whole dataset",
}


@dataclass(frozen=True)
class Secrets:
    """What a method must not be able to reach in a run on `dataset` under `noise`; `told` it may know."""

    dataset: Dataset
    noise: Noise
    told: IntVector

    def found(self, roots: dict[str, object]) -> Iterator[str]:
        """Yield in words every secret that can be reached from `roots`, with the path to it."""
        for path, thing in reachable(roots):
            words = self._named(thing)
            if words:
                yield f"{path} is {words}"

    def _named(self, thing: Any) -> str | None:
        for kind, words in KEEPERS.items():
            if isinstance(thing, kind):
                return words
        for name in ("dev", "test"):
            split = self.dataset.splits[name]
            if any(thing is part for part in (split, split.images, split.captions)):
                return f"the {name} split"
            if isinstance(thing, np.ndarray) and any(np.may_share_memory(thing, chunk) for chunk in chunks(split)):
                return f"features of {name}"
        if isinstance(thing, Split):
            return "a split, with its truth"
        return self._as_vector(thing)

    def _as_vector(self, thing: Any) -> str | None:
        """Return what the numbers in `thing` say, if they say what is hidden."""
        vector = as_vector(thing)
        if vector is None:
            return None
        true = self.dataset.splits["train"].true
        clean = self.noise.clean(true)
        if np.array_equal(vector, true):
            return "the true correspondence"
        if np.array_equal(vector, clean) or np.array_equal(vector, ~clean):
            return "which pairs are clean"
        for numbers, words in ((np.flatnonzero(clean), "clean"), (np.flatnonzero(~clean), "mismatched")):
            if len(vector) == len(numbers) and np.array_equal(np.sort(vector), numbers):
                return None if np.array_equal(numbers, self.told) else f"the numbers of the {words} pairs"
        return None


def chunks(split: Split) -> list[NDArray[np.float32]]:
    """Return the arrays that hold the features of a split."""
    return split.images._chunks


def as_vector(thing: Any) -> NDArray[Any] | None:
    """Return the numbers in an array of one axis, a list, tuple, set or the values of a dictionary; None for others."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().numpy() if thing.dtype != torch.bfloat16 else None
    if isinstance(thing, list | tuple | set | frozenset) and all(isinstance(item, int | float) for item in thing):
        thing = np.array(list(thing)) if thing else None
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "buif":
        vector: NDArray[Any] = np.squeeze(thing)
        return vector if vector.ndim == 1 and len(vector) > 1 else None
    return None


def _examine(candidate: Candidate) -> str:
    if candidate.method.needs_truth:
        raise Skipped("it asks to be told the truth (needs_truth): a reference, no contestant")
    dataset = replace(candidate.dataset, semantics=None)
    noise = candidate.noise(dataset)
    run, task = _trained(candidate, dataset, noise)
    told = run.trainers[0].told
    leaks = list(Secrets(dataset, noise, told).found(_roots(run, task)))
    elsewhere = behind_its_back(dataset, noise, told)
    other, other_task = _trained(candidate, *elsewhere)
    # A method that is good enough may find the truth by itself: it then holds one truth, not the other.
    also = set(Secrets(*elsewhere, told).found(_roots(other, other_task)))
    for leak in leaks:
        if leak in also:
            raise Failed(leak)
    places = differences(run.trainers[0].method.state_dict(), other.trainers[0].method.state_dict())
    if places:
        raise Failed(
            f"trains otherwise where only the truth, the ratio, dev and test are others: {len(places)} places of its "
            f"state differ, the first is {places[0]}"
        )
    return "nothing hidden can be reached, and nothing hidden makes a difference"


def _roots(run: Run, task: Task) -> dict[str, object]:
    """Return where a method can begin to look: its task, itself and its classes."""
    method = run.trainers[0].method
    classes = [kind for kind in type(method).__mro__ if issubclass(kind, Method) and kind is not Method]
    own = {name: value for kind in reversed(classes) for name, value in vars(kind).items() if not name.startswith("__")}
    return {"task": task, "self": method, "type(self)": own}


def _trained(candidate: Candidate, dataset: Dataset, noise: Noise) -> tuple[Run, Task]:
    """Return a run that is over, selected at its end alone, and the task that its method was given."""
    tasks: list[Task] = []
    original = candidate.method

    def setup(self: Method, task: Task) -> None:  # which leads to nothing that the method could not reach anyway
        tasks.append(task)
        original.setup(self, task)

    spied = cast("type[Method]", type(original.__name__, (original,), {"setup": setup}))
    run = replace(candidate, method=spied, folder=candidate.new_folder()).run(
        dataset=dataset, noise=noise, budget=SHORT, evaluations=1
    )
    run.execute()
    return run, tasks[0]


def behind_its_back(dataset: Dataset, noise: Noise, told: IntVector) -> tuple[Dataset, Noise]:
    """Return a dataset and noise with the same claimed pairs, of which others are clean, and another dev and test.

    As many pairs are clean, and those `told` still are, in the same places among the clean ones.
    """
    train = dataset.splits["train"]
    clean = noise.clean(train.true)
    others = swapped(clean, told)
    wrong = (noise.claimed + 1) % len(train.images)
    true = np.where(others, noise.claimed, np.where(clean | (train.true == noise.claimed), wrong, train.true))
    elsewhere = Shapes(seed=OTHER_SEED).load()
    splits = {"train": replace(train, true=true), "dev": elsewhere.splits["dev"], "test": elsewhere.splits["test"]}
    return replace(dataset, splits=splits), replace(noise, ratio=OTHER_RATIO)


def swapped(clean: NDArray[np.bool_], told: IntVector) -> NDArray[np.bool_]:
    """Return `clean`, (pairs,) bool, with neighbours of which one is clean exchanged, but for pairs that are `told`."""
    result = clean.copy()
    pair = 0
    while pair + 1 < len(clean):
        both = [pair, pair + 1]
        if clean[pair] != clean[pair + 1] and not np.isin(both, told).any():
            result[both] = result[both[::-1]]
            pair += 1
        pair += 1
    return result


CHECK = Check(
    "hidden",
    f"cannot reach which pairs are clean, the noise ratio, dev or test (at {RATIO:.0%} noise), nor trains by them",
    "use only what ncbench.Task gives; a method that must know the truth says needs_truth, and is a reference then",
    _examine,
    after=("trains", "budget", "pair-scores", "state", "same-seed"),
)
