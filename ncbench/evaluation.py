"""Scores of a run: retrieval from similarities, detection of mismatched pairs, quality of rematches.

Everything here is a pure function of arrays to a frozen dataclass that `dataclasses.asdict` makes ready for JSON;
a number that is not defined is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector

FloatVector = NDArray[np.float64]
Similarities = NDArray[np.floating[Any]]
Closeness = Callable[[IntVector, IntVector], FloatVector]

CALIBRATION_BINS = 15

# Random images per rematch that chance is found from: a standard error below 0.002 from 2,000 rematches on.
CHANCE_DRAWS = 32

# Elements of a similarity matrix that are compared at a time; bounds the memory beside the matrix itself.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Recalls:
    """Retrieval in one direction: R@1, R@5, R@10 in percent, median and mean rank counted from 1."""

    r1: float
    r5: float
    r10: float
    medr: float
    meanr: float

    @classmethod
    def from_ranks(cls, ranks: IntVector) -> Recalls:
        """Summarise `ranks`, (queries,) int64 counted from 0, with the formulas of the published codes."""
        r1, r5, r10 = (100 * int(np.count_nonzero(ranks < k)) / len(ranks) for k in (1, 5, 10))
        return cls(r1, r5, r10, float(np.floor(np.median(ranks))) + 1, float(np.mean(ranks)) + 1)


@dataclass(frozen=True)
class Retrieval:
    """Retrieval in both directions: captions of an image (i2t) and the image of a caption (t2i)."""

    i2t: Recalls
    t2i: Recalls

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, at most 600."""
        return sum(side.r1 + side.r5 + side.r10 for side in (self.i2t, self.t2i))

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and their rsum, ready for JSON."""
        return {**asdict(self), "rsum": self.rsum}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Retrieval:
        """Return what `to_dict` was called on."""
        return cls(Recalls(**content["i2t"]), Recalls(**content["t2i"]))


@dataclass(frozen=True)
class Detection:
    """How well P(clean) finds the mismatched pairs.

    `auc`: probability that a clean pair scores higher than a mismatched one, ties counting half; None unless there
    are both. `precision`, `recall`: of flagging pairs with P(clean) < 0.5 as mismatched, i.e. the share of flagged
    pairs that are mismatched (None if none is flagged) and the share of mismatched pairs that are flagged (None if
    there are none). `calibration_error`: ECE over CALIBRATION_BINS equal-width bins, in [0, 1]. `mismatched` and
    `pairs` are counts.
    """

    auc: float | None
    precision: float | None
    recall: float | None
    calibration_error: float
    mismatched: int
    pairs: int


@dataclass(frozen=True)
class Reliability:
    """What P(clean) says and what is true, per bin of equal width over [0, 1] that holds pairs, from below.

    `pairs` (bins,) int64 are counts, `said` and `found` (bins,) float64 the mean P(clean) and the share of clean pairs.
    """

    pairs: IntVector
    said: FloatVector
    found: FloatVector


@dataclass(frozen=True)
class RematchQuality:
    """How good the images are that a method believes in instead of the claimed ones.

    `count`: rematches with a weight above 0; the other numbers are plain means over these, None if there are none.
    `closer`: share whose image is closer in meaning to the caption than the claimed image, equally close not
    included. `chance`: what that share would be for random images of the training set, found from CHANCE_DRAWS images
    per rematch; far below a half where claimed images are right, since nothing is closer than these.
    `rematched_closeness`, `claimed_closeness`: mean closeness of the two.
    """

    count: int
    closer: float | None
    chance: float | None
    rematched_closeness: float | None
    claimed_closeness: float | None


@dataclass(frozen=True)
class Ranks:
    """The rank of every query, counted from 0: per fold the images', in their order, and the captions'."""

    i2t: tuple[IntVector, ...]
    t2i: tuple[IntVector, ...]

    def retrieval(self) -> Retrieval:
        """Return the scores, averaged over the folds."""
        return Retrieval(*(_mean([Recalls.from_ranks(part) for part in parts]) for parts in (self.i2t, self.t2i)))


def ranks_i2t(similarities: Similarities, true: IntVector) -> IntVector:
    """Return per image with captions, in image order, the rank of its best caption from 0: (images,) int64.

    `similarities` is (images, captions), `true` (captions,) the image of each caption; any number of captions per
    image. The rank is the number of other images' captions that score at least as high: ties count against the
    model, so that constant scores earn nothing. Raises ValueError as `evaluate` does.
    """
    _check(similarities, true)
    return _ranks_i2t(similarities, true)


def ranks_t2i(similarities: Similarities, true: IntVector) -> IntVector:
    """Return per caption the rank of its image from 0: the number of other images that score at least as high.

    Shapes, ties and errors as for `ranks_i2t`; images without captions compete too. Returns (captions,) int64.
    """
    _check(similarities, true)
    return _ranks_t2i(similarities, true)


def evaluate(similarities: Similarities, true: IntVector, folds: int = 1) -> Retrieval:
    """Return the retrieval scores of `similarities`, (images, captions), for captions of the images `true`.

    With `folds` above 1 the images are split into that many contiguous equal parts, each scored with its own captions
    only, and every number is averaged over the parts (COCO 1K: 5 folds of the 5,000 images). Errors as for `rank`.

    >>> similarities = np.array([[0.9, 0.8, 0.1], [0.3, 0.1, 0.05]])  # images x captions
    >>> evaluate(similarities, true=np.array([0, 0, 1])).i2t.r1
    50.0
    """
    return rank(similarities, true, folds).retrieval()


def rank(similarities: Similarities, true: IntVector, folds: int = 1) -> Ranks:
    """Return the ranks that `evaluate` summarises.

    Raises ValueError for shapes that do not fit, image numbers out of range, NaN or infinite similarities, folds that
    do not divide the images, and a fold without captions.
    """
    _check(similarities, true)
    n_images = len(similarities)
    if folds < 1 or n_images % folds:
        raise ValueError(f"{folds} folds do not divide {n_images} images")
    size = n_images // folds
    parts = [_rank_fold(similarities, true, start, start + size) for start in range(0, n_images, size)]
    return Ranks(tuple(i2t for i2t, _ in parts), tuple(t2i for _, t2i in parts))


def detect(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> Detection:
    """Return how well `p_clean`, (pairs,) in [0, 1], tells the `clean` pairs, (pairs,) bool, from the others.

    Raises ValueError for shapes that differ, no pairs at all, and values outside [0, 1] or NaN.
    """
    _check_beliefs(p_clean, clean)
    flagged = p_clean < 0.5
    mismatched = ~clean
    n_flagged, n_mismatched = int(flagged.sum()), int(mismatched.sum())
    found = int((flagged & mismatched).sum())
    return Detection(
        auc=_auc(p_clean, clean),
        precision=_share(found, n_flagged),
        recall=_share(found, n_mismatched),
        calibration_error=_calibration_error(p_clean, clean),
        mismatched=n_mismatched,
        pairs=len(clean),
    )


def reliability(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> Reliability:
    """Return what the calibration error of `detect` sums up, in the same bins. Shapes and errors as there."""
    _check_beliefs(p_clean, clean)
    bins = _calibration_bins(p_clean.astype(np.float64))
    pairs = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = np.flatnonzero(pairs)
    said, found = (np.bincount(bins, weights, CALIBRATION_BINS)[filled] / pairs[filled] for weights in (p_clean, clean))
    return Reliability(pairs[filled], said, found)


def rematch_quality(
    captions: IntVector,
    images: IntVector,
    weights: NDArray[np.floating[Any]],
    claimed: IntVector,
    closeness: Closeness,
    n_images: int,
) -> RematchQuality:
    """Return how good the rematches of `captions` with `images` are, (n,) int64 each, against the `claimed` pairs.

    `weights` (n,) are at least 0; a rematch of weight 0 is not believed and left out. `closeness` takes captions and
    images, (m,) int64 each, and returns how close they are in meaning, (m,) float64 in [0, 1]. The training set has
    `n_images` images; those for `chance` are drawn with a seed of their own, the same at every call.
    Raises ValueError for shapes that differ and for weights that are negative, infinite or NaN.
    """
    if captions.ndim != 1 or not captions.shape == images.shape == weights.shape:
        raise ValueError(f"rematches have shapes {captions.shape}, {images.shape} and {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights of rematches must be finite and at least 0")
    believed = weights > 0
    captions, images = captions[believed], images[believed]
    if len(captions) == 0:
        return RematchQuality(0, None, None, None, None)
    ours = closeness(captions, images)
    theirs = closeness(captions, claimed[captions])
    drawn = np.random.default_rng(0).integers(n_images, size=CHANCE_DRAWS * len(captions))
    random = closeness(np.tile(captions, CHANCE_DRAWS), drawn)
    return RematchQuality(
        count=len(captions),
        closer=float(np.mean(ours > theirs)),
        chance=float(np.mean(random > np.tile(theirs, CHANCE_DRAWS))),
        rematched_closeness=float(ours.mean()),
        claimed_closeness=float(theirs.mean()),
    )


def rank_correlation(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float | None:
    """Return Spearman's rank correlation of `one` and `other`, (n,) each, in [-1, 1]; None if either is constant.

    The correlation of their ranks, where equal values share the mean of theirs (Spearman, 1904). None for fewer than
    two values too. Raises ValueError for shapes that differ, and for values that are NaN.
    """
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"need two vectors of one length, found shapes {one.shape} and {other.shape}")
    if np.isnan(one).any() or np.isnan(other).any():
        raise ValueError("values to be ranked contain NaN")
    middle = (len(one) + 1) / 2
    x, y = _mid_ranks(one) - middle, _mid_ranks(other) - middle
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None


def _check_beliefs(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> None:
    if p_clean.ndim != 1 or p_clean.shape != clean.shape or len(p_clean) == 0:
        raise ValueError(f"need one P(clean) per pair, found shapes {p_clean.shape} and {clean.shape}")
    if not (p_clean.min() >= 0 and p_clean.max() <= 1):  # false for NaN too
        raise ValueError("P(clean) must be in [0, 1]")


def _check(similarities: Similarities, true: IntVector) -> None:
    if similarities.ndim != 2 or true.shape != similarities.shape[1:]:
        raise ValueError(
            f"need (images, captions) similarities and one image per caption, found shapes "
            f"{similarities.shape} and {true.shape}"
        )
    if similarities.size == 0:
        raise ValueError(f"nothing to rank: similarities have shape {similarities.shape}")
    if true.min() < 0 or true.max() >= len(similarities):
        raise ValueError(f"true must be in [0, {len(similarities)}), found {true.min()} to {true.max()}")
    # min and max carry NaN through and need no copy of a large matrix.
    if not (np.isfinite(similarities.min()) and np.isfinite(similarities.max())):
        raise ValueError("similarities contain NaN or infinity")


def _own_scores(similarities: Similarities, true: IntVector) -> Similarities:
    return similarities[true, np.arange(len(true))]


def _row_blocks(similarities: Similarities) -> Iterator[slice]:
    n_images, n_captions = similarities.shape
    rows = max(1, _BLOCK // n_captions)
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
    ranks = np.full(len(true), -1)  # the own image is counted below
    for rows in _row_blocks(similarities):
        ranks += np.count_nonzero(similarities[rows] >= own, axis=0)
    return ranks


def _rank_fold(similarities: Similarities, true: IntVector, start: int, stop: int) -> tuple[IntVector, IntVector]:
    inside = np.flatnonzero((true >= start) & (true < stop))
    if len(inside) == 0:
        raise ValueError(f"images {start} to {stop - 1} form a fold without captions")
    if stop - start < len(similarities):
        similarities, true = similarities[start:stop, inside], true[inside] - start
    return _ranks_i2t(similarities, true), _ranks_t2i(similarities, true)


def _mean(parts: list[Recalls]) -> Recalls:
    return Recalls(**{name: float(np.mean([getattr(part, name) for part in parts])) for name in asdict(parts[0])})


def _auc(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> float | None:
    """Return the Mann-Whitney statistic from mid-ranks, scaled to [0, 1]."""
    n_clean = int(np.count_nonzero(clean))
    n_mismatched = len(clean) - n_clean
    if n_clean == 0 or n_mismatched == 0:
        return None
    above = float(_mid_ranks(p_clean)[clean].sum()) - n_clean * (n_clean + 1) / 2
    return above / (n_clean * n_mismatched)


def _mid_ranks(values: NDArray[np.floating[Any]]) -> FloatVector:
    """Return the rank of every value from 1, (n,); equal ones share the mean of theirs."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatVector = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks


def _calibration_error(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> float:
    """Return sum over bins of (pairs in bin / pairs) * |mean P(clean) - share of clean|."""
    p = p_clean.astype(np.float64)
    gaps = np.bincount(_calibration_bins(p), weights=p - clean)
    return float(np.abs(gaps).sum()) / len(p)


def _calibration_bins(p: FloatVector) -> IntVector:
    """Return the bin of every value in [0, 1], (n,) int64; 1 is in the last bin."""
    return np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
