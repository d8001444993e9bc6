"""Retrieval of all that fits: precision among the first items, and first hits that count as wrong but fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import ArgumentError
from ncbench.evaluation.retrieval import Percent, Ranks, checked_similarities, rank
from ncbench.runtime.array_like import Numbers, as_integers

_BLOCK_ELEMENTS = 1 << 22  # compared at a time


@dataclass(frozen=True)
class FittingScores:
    """Retrieval of all fitting items in one direction, in percent, as means over the queries that something fits.

    With R the number of items that fit a query and P(i) the share of fitting items among the first i: `r1` is how often
    the first item fits, `r_precision` is P(R), and `map_at_r` is (1/R) sum of P(i) over the ranks i <= R of fitting
    items (Musgrave, Belongie and Lim, ECCV 2020, section 3.2). `forgiven`: of the first items that R@1 counts as wrong,
    those that fit; None if none is wrong.
    """

    r1: Percent
    r_precision: Percent
    map_at_r: Percent
    forgiven: Percent | None


@dataclass(frozen=True)
class FittingRetrieval:
    """Retrieval of all fitting items: captions for an image (i2t) and images for a caption (t2i)."""

    i2t: FittingScores
    t2i: FittingScores

    @property
    def map_at_r(self) -> float:
        """Mean of mAP@R over both directions."""
        return (self.i2t.map_at_r + self.t2i.map_at_r) / 2


@dataclass(frozen=True)
class FittingRanks:
    """The ranks of all fitting pairs, counted from 0; all are (pairs,) int64.

    Pair i is of `captions[i]` and `images[i]`. `i2t[i]` is the rank of the caption for the image, `t2i[i]` that of the
    image for the caption.
    """

    captions: IntVector
    images: IntVector
    i2t: IntVector
    t2i: IntVector

    def retrieval(self, ranks: Ranks, true: IntVector) -> FittingRetrieval:
        """Return the scores. `ranks` are of the whole split, and `true` (captions,) is the image of each caption."""
        return FittingRetrieval(
            _scores(self.images, self.i2t, np.unique(true), ranks.i2t[0]),
            _scores(self.captions, self.t2i, np.arange(len(true)), ranks.t2i[0]),
        )


def evaluate_fitting(similarities: Numbers, true: Numbers, captions: Numbers, images: Numbers) -> FittingRetrieval:
    """Return how well all that fits is retrieved, where `captions[i]` fits `images[i]`, (pairs,) each.

    `similarities` (images, captions) and `true` (captions,) are as in `ncbench.evaluate`. Pairs come once each, in any
    order; `ncbench.fitting_pairs` has those of a dataset. Ties count against the model: items that fit come after
    others of the same score. Raises ArgumentError as `ncbench.evaluate`, and for invalid pairs.

    >>> similarities = np.array([[0.9, 0.8, 0.1], [0.3, 0.7, 0.6]])  # images x captions
    >>> found = evaluate_fitting(similarities, [0, 0, 1], captions=[0, 1, 1, 2], images=[0, 0, 1, 1])
    >>> found.i2t.r1, found.i2t.forgiven  # the first caption of image 1 is that of image 0, but it fits
    (100.0, 100.0)
    """
    return rank_fitting(similarities, captions, images).retrieval(rank(similarities, true), as_integers("true", true))


def rank_fitting(similarities: Numbers, captions: Numbers, images: Numbers) -> FittingRanks:
    """Return the ranks that `evaluate_fitting` summarises, in the order of the pairs. Raises ArgumentError."""
    scores = checked_similarities(similarities)
    pairs = as_integers("captions", captions), as_integers("images", images)
    check_pairs(*pairs, scores.shape)
    return FittingRanks(*pairs, _ranks(scores, pairs[1], pairs[0]), _ranks(scores.T, pairs[0], pairs[1]))


def check_pairs(captions: IntVector, images: IntVector, shape: tuple[int, ...]) -> None:
    """Raise ArgumentError unless these are fitting pairs, each once, for similarities (images, captions) of `shape`."""
    for name, numbers, count in (("captions", captions, shape[1]), ("images", images, shape[0])):
        if numbers.ndim != 1 or numbers.shape != captions.shape or not len(numbers):
            raise ArgumentError(f"{name}: expected one number per fitting pair, found shape {numbers.shape}")
        if numbers.min() < 0 or numbers.max() >= count:
            raise ArgumentError(f"{name}: expected {name} in [0, {count}), found {numbers.min()} to {numbers.max()}")
    if len(np.unique(captions * shape[0] + images)) < len(captions):
        raise ArgumentError("captions: expected every fitting pair once, found one twice")


def _ranks(scores: NDArray[np.floating[Any]], queries: IntVector, items: IntVector) -> IntVector:
    """Return the rank of each item for its query, which are columns and rows of `scores`, (pairs,) int64."""
    own = scores[queries, items]
    at_least = np.empty(len(own), np.int64)
    step = max(1, _BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(own), step):
        block = slice(start, start + step)
        at_least[block] = np.count_nonzero(scores[queries[block]] >= own[block, None], axis=1)
    return ranks_among(queries, own, at_least)


def ranks_among(queries: IntVector, own: NDArray[np.floating[Any]], at_least: IntVector) -> IntVector:
    """Return the rank of each fitting item for its query, (pairs,) int64, where none of a query counts as another's.

    `own` are the scores of the items, `at_least` how many items, fitting or not, score at least as high.
    """
    order = np.lexsort((-own, queries))  # by query, the best first
    starts, counts = _groups(queries[order])
    before = np.arange(len(own)) - np.repeat(starts, counts)  # fitting items with a smaller rank
    tied = np.ones(len(own), np.bool_)  # whether a run of equal scores of a query begins
    tied[1:] = (queries[order][1:] != queries[order][:-1]) | (own[order][1:] != own[order][:-1])
    begins = np.flatnonzero(tied)
    ends = np.append(begins[1:], len(own))
    fitting_at_least = np.repeat(before[ends - 1] + 1, ends - begins)
    ranks = np.empty(len(own), np.int64)
    ranks[order] = at_least[order] - fitting_at_least + before
    return ranks


def _scores(queries: IntVector, ranks: IntVector, annotated: IntVector, best: IntVector) -> FittingScores:
    """Return the scores of the fitting items with these `ranks` for `queries`, (pairs,) each.

    `best` are the ranks that R@1 is computed from, for the queries `annotated`.
    """
    order = np.lexsort((ranks, queries))
    found, ordered = queries[order], ranks[order]
    starts, counts = _groups(found)
    before = np.arange(len(order)) - np.repeat(starts, counts)
    inside = ordered < np.repeat(counts, counts)
    precision = np.where(inside, (before + 1) / (ordered + 1), 0)
    first_fits = ordered[starts] == 0
    wrong = np.isin(found[starts], annotated[best > 0])
    return FittingScores(
        r1=_percent(first_fits),
        r_precision=_percent(np.add.reduceat(inside, starts, dtype=np.int64) / counts),
        map_at_r=_percent(np.add.reduceat(precision, starts) / counts),
        forgiven=_percent(first_fits[wrong]) if wrong.any() else None,
    )


def _groups(ordered: IntVector) -> tuple[IntVector, IntVector]:
    """Return where runs of equal numbers begin, and how long they are."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return starts, np.diff(np.append(starts, len(ordered)))


def _percent(shares: NDArray[Any]) -> float:
    return min(100.0, 100 * float(np.mean(shares)))
