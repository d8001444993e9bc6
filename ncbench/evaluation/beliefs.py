"""What a method believed of its training pairs, judged: detection, calibration, quality of rematches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.evaluation.retrieval import FloatVector
from ncbench.method.base import Plan, Rematches


@dataclass(frozen=True)
class Beliefs:
    """P(clean) and soft labels (pairs,) in [0, 1], rematches, the pairs that the method was told are clean, and a plan.

    `clean` (pairs,) bool and `true_images`, those of the captions of the plan, are the truth; None where nobody knows.
    """

    p_clean: NDArray[np.float64] | None
    soft_labels: NDArray[np.float64] | None
    rematches: Rematches | None
    told: IntVector
    plan: Plan | None = None
    clean: NDArray[np.bool_] | None = None
    true_images: IntVector | None = None


Closeness = Callable[[IntVector, IntVector], FloatVector]

CALIBRATION_BINS = 15

# Random images per rematch that chance is found from: a standard error below 0.002 from 2,000 rematches on.
CHANCE_DRAWS = 32


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
