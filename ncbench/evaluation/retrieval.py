"""Retrieval metrics: ranks and recalls from a similarity matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import ArgumentError
from ncbench.runtime.array_like import Numbers, as_floats, as_integers

FloatVector = NDArray[np.float64]
Similarities = NDArray[np.floating[Any]]

# Records that are read must keep to these; nothing is checked where the numbers are computed.
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
MeanRank: TypeAlias = Annotated[float, Meta(ge=1)]

_BLOCK_ELEMENTS = 1 << 22  # compared at a time, which bounds the memory needed besides the matrix itself


@dataclass(frozen=True)
class Recalls:
    """Retrieval in one direction: R@1, R@5 and R@10 in percent, median and mean rank counted from 1."""

    r1: Percent
    r5: Percent
    r10: Percent
    medr: MeanRank
    meanr: MeanRank

    @classmethod
    def from_ranks(cls, ranks: IntVector) -> Recalls:
        """Summarise `ranks`, (queries,) int64 counted from 0, with the formulas of the published code."""
        r1, r5, r10 = (100 * int(np.count_nonzero(ranks < k)) / len(ranks) for k in (1, 5, 10))
        return cls(r1, r5, r10, float(np.floor(np.median(ranks))) + 1, float(np.mean(ranks)) + 1)


@dataclass(frozen=True)
class Retrieval:
    """Retrieval in both directions: captions for an image (i2t) and images for a caption (t2i)."""

    i2t: Recalls
    t2i: Recalls

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, at most 600."""
        return sum(side.r1 + side.r5 + side.r10 for side in (self.i2t, self.t2i))

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics and their rsum, ready for JSON."""
        return {**asdict(self), "rsum": self.rsum}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Retrieval:
        """Return the metrics that `to_dict` wrote."""
        return cls(Recalls(**content["i2t"]), Recalls(**content["t2i"]))


@dataclass(frozen=True)
class Ranks:
    """The rank of each query, counted from 0: one vector per fold, for images (i2t) and captions (t2i) in order."""

    i2t: tuple[IntVector, ...]
    t2i: tuple[IntVector, ...]

    def retrieval(self) -> Retrieval:
        """Return the metrics, averaged over the folds."""
        return Retrieval(*(_mean([Recalls.from_ranks(part) for part in parts]) for parts in (self.i2t, self.t2i)))


def ranks_i2t(similarities: Numbers, true: Numbers) -> IntVector:
    """Return the rank, counted from 0, of the best caption of each image: (images with captions,) int64.

    `similarities` is (images, captions), `true` (captions,) the image of each caption; images may have any number of
    captions. The rank is the number of other images' captions that score at least as high. Ties count against the
    model, so constant scores earn nothing. Raises ArgumentError as `rank` does.
    """
    return _ranks_i2t(*_checked(similarities, true))


def ranks_t2i(similarities: Numbers, true: Numbers) -> IntVector:
    """Return the rank, counted from 0, of each caption's image: (captions,) int64.

    The rank is the number of other images, with or without captions, that score at least as high. Shapes, ties and
    errors as for `ranks_i2t`.
    """
    return _ranks_t2i(*_checked(similarities, true))


def evaluate(similarities: Numbers, true: Numbers, folds: int = 1) -> Retrieval:
    """Return the retrieval metrics of `similarities`, (images, captions), where `true` is each caption's image.

    Both may be arrays, tensors on any device, or lists. Similarities of any floating-point type are compared as they
    are; `true` (captions,) holds integers. With `folds` above 1, the images are split into contiguous folds of equal
    size. Each fold is scored with its own captions only, and the metrics are averaged over the folds (COCO 1K: 5 folds
    of the 5,000 images). Errors as for `rank`.

    >>> similarities = np.array([[0.9, 0.8, 0.1], [0.3, 0.1, 0.05]])  # images x captions
    >>> evaluate(similarities, true=np.array([0, 0, 1])).i2t.r1
    50.0
    """
    return rank(similarities, true, folds).retrieval()


def rank(similarities: Numbers, true: Numbers, folds: int = 1) -> Ranks:
    """Return the ranks that `evaluate` summarises.

    Raises ArgumentError, which is a ValueError, if shapes do not match, image numbers are out of range, similarities
    are NaN or infinite, the folds do not divide the images, or a fold has no captions.
    """
    scores, images = _checked(similarities, true)
    n_images = len(scores)
    check_folds(images, n_images, folds)
    size = n_images // folds
    parts = [_rank_fold(scores, images, start, start + size) for start in range(0, n_images, size)]
    return Ranks(tuple(i2t for i2t, _ in parts), tuple(t2i for _, t2i in parts))


def checked_similarities(similarities: Numbers) -> Similarities:
    """Return `similarities` as an array (images, captions). Raises ArgumentError unless they are valid."""
    scores = as_floats("similarities", similarities)
    if scores.ndim != 2:
        raise ArgumentError(f"similarities: expected a matrix (images, captions), found shape {scores.shape}")
    if scores.size == 0:
        raise ArgumentError(f"similarities: nothing to rank, found shape {scores.shape}")
    check_finite(scores)
    return scores


def check_finite(scores: Similarities) -> None:
    """Raise ArgumentError if scores, which are not empty, contain NaN or infinity."""
    # min and max propagate NaN, without a copy of the matrix.
    if not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        raise ArgumentError("similarities: contain NaN or infinity")


def check_true(true: IntVector, shape: tuple[int, ...]) -> None:
    """Raise ArgumentError unless `true` is the image of each caption, for similarities of this shape."""
    if true.shape != shape[1:]:
        raise ArgumentError(f"true: expected the image of each of {shape[1]} captions, found shape {true.shape}")
    if true.min() < 0 or true.max() >= shape[0]:
        raise ArgumentError(f"true: expected images in [0, {shape[0]}), found {true.min()} to {true.max()}")


def check_folds(true: IntVector, n_images: int, folds: int) -> None:
    """Raise ArgumentError unless the folds divide the images, and each has captions."""
    if folds < 1 or n_images % folds:
        raise ArgumentError(f"folds: {folds} folds do not divide {n_images} images")
    size = n_images // folds
    for fold in np.flatnonzero(np.bincount(true // size, minlength=folds) == 0):
        start = int(fold) * size
        raise ArgumentError(f"true: images {start} to {start + size - 1} form a fold without captions")


def _checked(similarities: Numbers, true: Numbers) -> tuple[Similarities, IntVector]:
    """Return both as arrays. Raises ArgumentError unless they are valid."""
    scores, images = checked_similarities(similarities), as_integers("true", true)
    check_true(images, scores.shape)
    return scores, images


def _own_scores(similarities: Similarities, true: IntVector) -> Similarities:
    return similarities[true, np.arange(len(true))]


def _row_blocks(similarities: Similarities) -> Iterator[slice]:
    n_images, n_captions = similarities.shape
    rows = max(1, _BLOCK_ELEMENTS // n_captions)
    return (slice(start, start + rows) for start in range(0, n_images, rows))


def _ranks_i2t(similarities: Similarities, true: IntVector) -> IntVector:
    n_images = len(similarities)
    own = _own_scores(similarities, true)
    best = np.full(n_images, -np.inf, similarities.dtype)
    np.maximum.at(best, true, own)
    at_least = np.empty(n_images, np.int64)
    for rows in _row_blocks(similarities):
        at_least[rows] = np.count_nonzero(similarities[rows] >= best[rows, None], axis=1)
    own_at_least = np.bincount(true[own == best[true]], minlength=n_images)
    has_captions = np.bincount(true, minlength=n_images) > 0
    ranks: IntVector = (at_least - own_at_least)[has_captions]
    return ranks


def _ranks_t2i(similarities: Similarities, true: IntVector) -> IntVector:
    own = _own_scores(similarities, true)
    ranks = np.full(len(true), -1)  # the caption's own image is counted below
    for rows in _row_blocks(similarities):
        ranks += np.count_nonzero(similarities[rows] >= own, axis=0)
    return ranks


def _rank_fold(similarities: Similarities, true: IntVector, start: int, stop: int) -> tuple[IntVector, IntVector]:
    inside = np.flatnonzero((true >= start) & (true < stop))
    if stop - start < len(similarities):
        similarities, true = similarities[start:stop, inside], true[inside] - start
    return _ranks_i2t(similarities, true), _ranks_t2i(similarities, true)


def _mean(parts: list[Recalls]) -> Recalls:
    return Recalls(**{name: float(np.mean([getattr(part, name) for part in parts])) for name in asdict(parts[0])})
