"""Whether a method can see what is hidden from it: which pairs are clean, the noise ratio, dev and test.

There are two tests. One follows references from everything that the method receives and holds. The other changes what
is hidden: the same claimed pairs with another truth, another ratio, another dev and test split must train the same
weights, bit by bit. This finds a method that looks elsewhere, in frames or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.checks.method.candidate import RATIO, SHORT_BUDGET, Candidate
from ncbench.checks.method.reach import reachable
from ncbench.checks.shapes import Shapes
from ncbench.checks.verdicts import Check, Failed, Skipped
from ncbench.data.dataset import Dataset, IntVector, Split
from ncbench.method.base import Method, Task
from ncbench.noise.base import Noise
from ncbench.records.spec import RunSpec
from ncbench.runtime.sameness import differences
from ncbench.training.numbering import Numbering, inverse
from ncbench.training.run import Run
from ncbench.training.seclusion import Secluded
from ncbench.training.trainer import Trainer

OTHER_RATIO = 0.6
OTHER_SEED = 1
KEEPERS = {
    Run: "the run, with all of its data",
    Trainer: "the trainer, with the spec of the run",
    RunSpec: "the spec of the run, with the noise ratio",
    Noise: "the noise, with its ratio",
    Dataset: "the whole dataset",
    Numbering: "the numbering of the run, with the order of the captions in the dataset",
}


@dataclass(frozen=True)
class Secrets:
    """What a method must not reach in a run on `dataset` under `noise`, whose pairs have the numbers of `numbering`.

    It may know the `given` clean pairs, by the numbers that it sees.
    """

    dataset: Dataset
    noise: Noise
    numbering: Numbering
    given: IntVector

    def found(self, roots: dict[str, object]) -> Iterator[str]:
        """Yield a description of every secret that can be reached from `roots`, with the path to it."""
        for path, thing in reachable(roots):
            words = self._name(thing)
            if words:
                yield f"{path} is {words}"

    def _name(self, thing: Any) -> str | None:
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
            return "a split, with its true correspondence"
        return self._as_vector(thing)

    def _as_vector(self, thing: Any) -> str | None:
        """Return what the numbers in `thing` reveal, if anything."""
        vector = as_vector(thing)
        if vector is None:
            return None
        true, order = self.dataset.splits["train"].true, self.numbering.captions
        if np.array_equal(vector, order) or np.array_equal(vector, inverse(order)):
            return "the order of the captions in the dataset"
        renamed = inverse(self.numbering.images)[true]
        if any(np.array_equal(vector, held) for one in (true, renamed) for held in (one, self.numbering.shown(one))):
            return "the true correspondence"
        clean = self.noise.clean(true)
        for known in (clean, self.numbering.shown(clean)):
            if np.array_equal(vector, known) or np.array_equal(vector, ~known):
                return "which pairs are clean"
            for numbers, words in ((np.flatnonzero(known), "clean"), (np.flatnonzero(~known), "mismatched")):
                if len(vector) == len(numbers) and np.array_equal(np.sort(vector), numbers):
                    return None if np.array_equal(numbers, self.given) else f"the numbers of the {words} pairs"
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
        raise Skipped("it sees ground truth (needs_truth): a reference, not a contestant")
    dataset = replace(candidate.dataset, semantics=None)
    noise = candidate.noise(dataset)
    run, task = _trained(candidate, dataset, noise)
    given = run.trainers[0].given_clean
    numbering = run.numbering
    leaks = list(Secrets(dataset, noise, numbering, given).found(_roots(run, task)))
    elsewhere = with_other_secrets(dataset, noise, numbering, given)
    other, other_task = _trained(candidate, *elsewhere)
    # A good method may find the truth by itself. It then holds one truth, not the other.
    also = set(Secrets(*elsewhere, numbering, given).found(_roots(other, other_task)))
    for leak in leaks:
        if leak in also:
            raise Failed(leak)
    places = differences(run.trainers[0].method.state_dict(), other.trainers[0].method.state_dict())
    if places:
        raise Failed(
            f"trains differently if only the truth, the ratio, dev and test differ: {len(places)} places of its "
            f"state differ, the first is {places[0]}"
        )
    return "nothing hidden can be reached, and nothing hidden affects training"


def _roots(run: Run, task: Task) -> dict[str, object]:
    """Return where a method can start to look: its task, itself and its classes."""
    return {"task": task, **held_by(run.trainers[0].method)}


def held_by(secluded: Secluded) -> dict[str, object]:
    """Return the method and what its classes hold, by name."""
    method = secluded.inner
    classes = [kind for kind in type(method).__mro__ if issubclass(kind, Method) and kind is not Method]
    own = {name: value for kind in reversed(classes) for name, value in vars(kind).items() if not name.startswith("__")}
    return {"self": method, "type(self)": own}


def _trained(candidate: Candidate, dataset: Dataset, noise: Noise) -> tuple[Run, Task]:
    """Return a finished run, selected at its end only, and the task of its method."""
    tasks: list[Task] = []
    original = candidate.method

    def setup(self: Method, task: Task) -> None:  # leads to nothing that the method could not reach anyway
        tasks.append(task)
        original.setup(self, task)

    spied = cast("type[Method]", type(original.__name__, (original,), {"setup": setup}))
    run = replace(candidate, method=spied, folder=candidate.new_folder()).run(
        dataset=dataset, noise=noise, budget=SHORT_BUDGET, evaluations=1
    )
    run.execute()
    return run, tasks[0]


def with_other_secrets(dataset: Dataset, noise: Noise, numbering: Numbering, given: IntVector) -> tuple[Dataset, Noise]:
    """Return a dataset and noise with the same claimed pairs, but other clean ones, and another dev and test split.

    As many pairs are clean, and the `given` ones, by the numbers that a method sees, still are, in the same places
    among the clean ones.
    """
    train = dataset.splits["train"]
    clean = noise.clean(train.true)
    others = numbering.restored(swapped(numbering.shown(clean), given))
    wrong = (noise.claimed + 1) % len(train.images)
    true = np.where(others, noise.claimed, np.where(clean | (train.true == noise.claimed), wrong, train.true))
    elsewhere = Shapes(seed=OTHER_SEED).load()
    splits = {"train": replace(train, true=true), "dev": elsewhere.splits["dev"], "test": elsewhere.splits["test"]}
    return replace(dataset, splits=splits), replace(noise, ratio=OTHER_RATIO)


def swapped(clean: NDArray[np.bool_], given: IntVector) -> NDArray[np.bool_]:
    """Return `clean`, (pairs,) bool, with neighbours swapped where one of the two is clean and neither is `given`."""
    result = clean.copy()
    pair = 0
    while pair + 1 < len(clean):
        both = [pair, pair + 1]
        if clean[pair] != clean[pair + 1] and not np.isin(both, given).any():
            result[both] = result[both[::-1]]
            pair += 1
        pair += 1
    return result


CHECK = Check(
    "hidden",
    f"cannot reach, and does not use, which pairs are clean, the noise ratio, dev or test (at {RATIO:.0%} noise)",
    "use only what is in ncbench.Task; a method that needs the truth sets needs_truth and is a reference",
    _examine,
    after=("trains", "budget", "pair-scores", "state", "same-seed"),
)
