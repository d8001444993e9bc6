"""Which captions fit which images of a split, as far as the meanings of a dataset tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Dataset, IntVector, Semantics
from ncbench.errors import UserError

TOLERANCE = 1e-9
"""Equal closeness may be computed from sums in another order."""

_BLOCK_PAIRS = 1 << 18  # of captions and images, looked at together


@dataclass(frozen=True)
class FittingPairs:
    """Captions and images that fit: `captions[i]` fits `images[i]`, both (pairs,) int64.

    Pairs are ordered by caption, then image, without repeats.
    """

    captions: IntVector
    images: IntVector

    def __len__(self) -> int:
        return len(self.captions)


@runtime_checkable
class SearchableSemantics(Semantics, Protocol):
    """Semantics that find close pairs faster than by the closeness of all, and remember what they found."""

    def pairs_at_least(self, split: str, least: NDArray[np.float64]) -> tuple[IntVector, IntVector]:
        """Return the pairs (captions, images) whose closeness is at least `least` (captions,), in any order."""
        ...


def fitting_pairs(dataset: Dataset, split: str = "test") -> FittingPairs | None:
    """Return the captions and images of a split that fit; None for a dataset without semantics.

    A caption fits an image if it is at least as close to it, in meaning, as to its own image. So each caption fits its
    own image; one that says nothing wrong (closeness 1) fits exactly the images of which all that it says is true. For
    one with an error, no reader could prefer its own image to the others that it fits.

    Raises UserError for an unknown split.
    """
    if split not in dataset.splits:
        raise UserError(f"split {split!r}: {dataset.name} has {', '.join(dataset.splits)}")
    semantics, part = dataset.semantics, dataset.splits[split]
    if semantics is None:
        return None
    own = semantics.closeness(split, np.arange(len(part.true)), part.true)
    least = own - TOLERANCE
    if isinstance(semantics, SearchableSemantics):
        captions, images = semantics.pairs_at_least(split, least)
    else:
        captions, images = _among_all(semantics, split, least, len(part.images))
    # A caption fits its own image, even where closeness is not the same number each time.
    numbers = np.union1d(captions * len(part.images) + images, np.arange(len(own)) * len(part.images) + part.true)
    return FittingPairs(*np.divmod(numbers, len(part.images)))


def _among_all(
    semantics: Semantics, split: str, least: NDArray[np.float64], n_images: int
) -> tuple[IntVector, IntVector]:
    """Return the pairs whose closeness is at least `least`, looking at all of them, a block at a time."""
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    total = len(least) * n_images
    for start in range(0, total, _BLOCK_PAIRS):
        captions, images = np.divmod(np.arange(start, min(start + _BLOCK_PAIRS, total)), n_images)
        fits = semantics.closeness(split, captions, images) >= least[captions]
        found.append((captions[fits], images[fits]))
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])
