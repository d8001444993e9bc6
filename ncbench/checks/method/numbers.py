"""Whether a method reads the truth from the numbers of pairs and images.

Datasets store the captions of an image side by side, so pair p truly belongs to image p // 5: whoever knows the numbers
of the dataset knows which pairs are clean. In the training set of this check, images and captions are random, so
nothing but numbers can tell. The method trains on it twice: with the numbers of the dataset, which no run shows, and
with those that a run shows. Whatever it believes, holds or trains on must then be as good as chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.budget import WorkMeter
from ncbench.checks.method.blindness import as_vector, held_by
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.method.reach import reachable
from ncbench.checks.shapes import Shapes
from ncbench.checks.verdicts import Check, Failed, Skipped
from ncbench.data.dataset import Captions, Dataset, ImageFeatures, Split
from ncbench.data.training_view import Batch
from ncbench.evaluation.beliefs import area_under_curve
from ncbench.runtime.seeds import derive_rng
from ncbench.training.loop import Loop
from ncbench.training.numbering import Numbering

RATIO = 0.5
BUDGET = 6.0  # baseline epochs
TOLERANCE = 0.2  # of an AUC, around that of chance; chance itself varies by 0.036
SHAPES = Shapes()
NUMBERINGS = ("in the order of the dataset", "renumbered as in a run")


def silent_dataset() -> Dataset:
    """Return the tiny dataset with random training images and captions; both captions of an image lie side by side."""
    dataset = SHAPES.load()
    rng = derive_rng(SHAPES.seed, "silent")
    train, words = dataset.splits["train"], len(dataset.vocabulary)
    features = rng.normal(size=(len(train.images), train.images.n_regions, train.images.dim)).astype(np.float32)
    tokens = [
        [*train.captions.tokens(number)[:1], *rng.integers(4, words, length - 2), *train.captions.tokens(number)[-1:]]
        for number, length in enumerate(train.captions.lengths.tolist())
    ]
    silent = Split(ImageFeatures([features]), Captions(train.captions.texts, tokens), train.true)
    return replace(dataset, splits={**dataset.splits, "train": silent}, semantics=None)


@dataclass
class Trained:
    """A method trained on the silent dataset, and how often it took each pair into a batch."""

    loop: Loop
    taken: Counter[int]

    def vectors(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield everything that may tell clean pairs from others, (pairs,), each with a name."""
        method, count = self.loop.method, len(self.loop.view)
        with self.loop.meter.paused():
            for name in ("pair_scores", "soft_labels"):
                stated = getattr(method, name)()
                if stated is not None:
                    yield f"{name}()", stated
        yield "how often it takes a pair into a batch", np.array([self.taken[pair] for pair in range(count)], float)
        for path, thing in reachable(held_by(method)):
            if path.startswith("self.task."):
                continue
            found = as_vector(thing)
            if found is not None:
                yield from ((path, vector) for vector in self._by_pair(found))

    def _by_pair(self, found: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
        """Yield a vector as values of pairs, and as numbers of pairs."""
        count = len(self.loop.view)
        if len(found) == count:
            yield found.astype(np.float64)
        if found.dtype.kind in "iu" and len(found) < count and found.min() >= 0 and found.max() < count:
            named = np.zeros(count)
            named[found] = 1
            yield named


def _examine(candidate: Candidate) -> str:
    if candidate.method.needs_truth:
        raise Skipped("it sees ground truth (needs_truth): a reference, not a contestant")
    dataset = silent_dataset()
    noise = candidate.noise(dataset, RATIO)
    train = dataset.splits["train"]
    n, n_images = len(train.captions), len(train.images)
    drawn = Numbering.unchanged(n, n_images), Numbering.draw(n, n_images, 0)
    furthest = 0.0
    for numbering, words in zip(drawn, NUMBERINGS, strict=True):
        trained = _trained(candidate, dataset, numbering)
        clean = numbering.shown(noise.clean(train.true))
        given = trained.loop.task.clean
        judged = np.setdiff1d(np.arange(n), [] if given is None else given)
        for name, vector in trained.vectors():
            auc = area_under_curve(vector[judged], clean[judged])
            off = 0.0 if auc is None else abs(auc - 0.5)
            if off > TOLERANCE:
                raise Failed(
                    f"{name} tells clean pairs from others (AUC {auc:.2f}) in a training set of random images and "
                    f"captions, {words}: it follows the numbers of pairs"
                )
            furthest = max(furthest, off)
    return f"AUC within {furthest:.2f} of chance, by their numbers alone"


def _trained(candidate: Candidate, dataset: Dataset, numbering: Numbering) -> Trained:
    there = replace(candidate, dataset=dataset, folder=candidate.new_folder())
    loop = there.loop(WorkMeter(round(BUDGET * there.epoch_work)), numbering=numbering, ratio=RATIO)
    taken: Counter[int] = Counter()
    batch_of = loop.view._batch

    def counting(pairs: NDArray[np.int64], features: torch.Tensor) -> Batch:
        taken.update(pairs.tolist())
        return batch_of(pairs, features)

    loop.view._batch = counting  # type: ignore[method-assign]
    loop.set_up()
    for _ in loop.updates():
        pass
    return Trained(loop, taken)


CHECK = Check(
    "numbers",
    f"numbers tell it nothing: where only they could, AUC is within {TOLERANCE:g} of chance (at {RATIO:.0%} noise)",
    "the numbers of pairs and images are names: look things up by them, do not divide, compare or order by them",
    _examine,
    after=("trains", "budget", "pair-scores"),
)
