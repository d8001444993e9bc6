"""Evaluating what a method believes about its training pairs: detection, calibration, quality of rematches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import ArgumentError
from ncbench.evaluation.retrieval import FloatVector
from ncbench.method.base import Plan, Rematches
from ncbench.runtime.array_like import Numbers, as_booleans, as_floats


@dataclass(frozen=True)
class Beliefs:
    """What a method believes about its training pairs, with the ground truth where it is known.

    `p_clean` and `soft_labels` are (pairs,) in [0, 1]; `given_clean` are the numbers of the clean pairs that the method
    was given. Ground truth, or None: `clean` (pairs,) bool, and `true_images`, those of the captions of the `plan`.
    """

    p_clean: NDArray[np.float64] | None
    soft_labels: NDArray[np.float64] | None
    rematches: Rematches | None
    given_clean: IntVector
    plan: Plan | None = None
    clean: NDArray[np.bool_] | None = None
    true_images: IntVector | None = None


# Records that are read must keep to these; nothing is checked where the numbers are computed. Sums may be rounded.
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
MeanShare: TypeAlias = Annotated[float, Meta(ge=0, le=1 + 1e-9)]

Closeness = Callable[[IntVector, IntVector], FloatVector]

CALIBRATION_BINS = 15

# Random images per rematch that estimate chance. With 2,000 rematches or more, the standard error is below 0.002.
CHANCE_DRAWS = 32


@dataclass(frozen=True)
class Detection:
    """How well P(clean) finds the mismatched pairs.

    `auc`: probability that a clean pair scores higher than a mismatched one; ties count half. None unless there are
    pairs of both kinds. `precision`, `recall`: pairs with P(clean) < 0.5 are flagged as mismatched. Precision is the
    share of flagged pairs that are mismatched (None if none is flagged), recall the share of mismatched pairs that are
    flagged (None if there are none). `calibration_error`: expected calibration error (ECE) over CALIBRATION_BINS bins
    of equal width, in [0, 1]. `mismatched`, `pairs`: counts.
    """

    auc: Share | None
    precision: Share | None
    recall: Share | None
    calibration_error: MeanShare
    mismatched: Count
    pairs: Count


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: the non-empty bins of P(clean), of equal width over [0, 1], in ascending order.

    Per bin: the number of `pairs` (int64), the `mean_p_clean` and the `clean_share` (float64), each (bins,).
    """

    pairs: IntVector
    mean_p_clean: FloatVector
    clean_share: FloatVector


@dataclass(frozen=True)
class RematchQuality:
    """How good the rematched images are compared with the claimed ones.

    `count`: rematches with a weight above 0. The other numbers are unweighted means over these, None if there are none.
    `closer`: share whose image is strictly closer in meaning to the caption than the claimed image. `chance`: the same
    share for random images of the training set, estimated from CHANCE_DRAWS images per rematch. It is far below one
    half where the claimed images are correct, since no image is closer than those.
    `rematched_closeness`, `claimed_closeness`: mean closeness of the two images to the caption.
    """

    count: Count
    closer: Share | None
    chance: Share | None
    rematched_closeness: MeanShare | None
    claimed_closeness: MeanShare | None


def detect(p_clean: Numbers, clean: Numbers) -> Detection:
    """Return how well `p_clean`, (pairs,) in [0, 1], separates the `clean` pairs, (pairs,) bool, from the mismatched.

    Both may be arrays, tensors on any device, or lists; `p_clean` has any floating-point type. Raises ArgumentError,
    which is a ValueError, if the shapes differ, if there are no pairs, and for values outside [0, 1] or NaN.

    >>> detect([0.9, 0.8, 0.3], clean=[True, True, False]).auc
    1.0
    """
    p_clean, clean = _checked_beliefs(p_clean, clean)
    flagged = p_clean < 0.5
    mismatched = ~clean
    n_flagged, n_mismatched = int(flagged.sum()), int(mismatched.sum())
    found = int((flagged & mismatched).sum())
    return Detection(
        auc=area_under_curve(p_clean, clean),
        precision=_share(found, n_flagged),
        recall=_share(found, n_mismatched),
        calibration_error=_calibration_error(p_clean, clean),
        mismatched=n_mismatched,
        pairs=len(clean),
    )


def reliability(p_clean: Numbers, clean: Numbers) -> Reliability:
    """Return the bins that the calibration error of `detect` sums over. Shapes and errors as for `detect`."""
    p_clean, clean = _checked_beliefs(p_clean, clean)
    bins = _calibration_bins(p_clean.astype(np.float64))
    pairs = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = np.flatnonzero(pairs)
    means = (np.bincount(bins, weights, CALIBRATION_BINS)[filled] / pairs[filled] for weights in (p_clean, clean))
    return Reliability(pairs[filled], *means)


def rematch_quality(
    captions: IntVector,
    images: IntVector,
    weights: NDArray[np.floating[Any]],
    claimed: IntVector,
    closeness: Closeness,
    n_images: int,
) -> RematchQuality:
    """Compare rematches, `captions` with `images` (n,) int64 each, with the `claimed` pairs.

    `weights` (n,) are at least 0; rematches of weight 0 are ignored. `closeness` maps captions and images, (m,) int64
    each, to their closeness in meaning, (m,) float64 in [0, 1]. The training set has `n_images` images; those for
    `chance` are drawn with a fixed seed. Raises ValueError if the shapes differ, and for weights that are negative,
    infinite or NaN.
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

    This is the correlation of ranks; ties get their mean rank (Spearman, 1904). Also None for fewer than two values.
    Raises ValueError if the shapes differ or a value is NaN.
    """
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"expected two vectors of one length, found shapes {one.shape} and {other.shape}")
    if np.isnan(one).any() or np.isnan(other).any():
        raise ValueError("values to rank contain NaN")
    middle = (len(one) + 1) / 2
    x, y = _mid_ranks(one) - middle, _mid_ranks(other) - middle
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None


def _checked_beliefs(p_clean: Numbers, clean: Numbers) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Return both as arrays. Raises ArgumentError unless they are valid."""
    beliefs, truth = as_floats("p_clean", p_clean), as_booleans("clean", clean)
    if beliefs.ndim != 1 or beliefs.shape != truth.shape or len(beliefs) == 0:
        raise ArgumentError(
            f"p_clean: expected one P(clean) per pair of `clean`, found shapes {beliefs.shape} and {truth.shape}"
        )
    if not (beliefs.min() >= 0 and beliefs.max() <= 1):  # also fails for NaN
        raise ArgumentError("p_clean: P(clean) must be in [0, 1]")
    return beliefs, truth


def area_under_curve(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> float | None:
    """Return the Mann-Whitney statistic from mid-ranks, scaled to [0, 1]."""
    n_clean = int(np.count_nonzero(clean))
    n_mismatched = len(clean) - n_clean
    if n_clean == 0 or n_mismatched == 0:
        return None
    above = float(_mid_ranks(p_clean)[clean].sum()) - n_clean * (n_clean + 1) / 2
    return above / (n_clean * n_mismatched)


def _mid_ranks(values: NDArray[np.floating[Any]]) -> FloatVector:
    """Return the rank of each value, counted from 1, (n,); ties get their mean rank."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatVector = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks


def _calibration_error(p_clean: NDArray[np.floating[Any]], clean: NDArray[np.bool_]) -> float:
    """Return sum over bins of (pairs in bin / pairs) * |mean P(clean) - share of clean|."""
    p = p_clean.astype(np.float64)
    gaps = np.bincount(_calibration_bins(p), weights=p - clean)
    return float(np.abs(gaps).sum()) / len(p)


def _calibration_bins(p: FloatVector) -> IntVector:
    """Return the bin of each value in [0, 1], (n,) int64; 1 is in the last bin."""
    return np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
