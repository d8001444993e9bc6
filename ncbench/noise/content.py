"""A fixed descriptor space of images, with distances and nearest neighbours.

After the sums over regions, all arithmetic is on integers. So noise that depends on it is the same on every machine, in
whatever order its libraries add.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import ImageFeatures, IntVector
from ncbench.noise.sampling import raw_integers
from ncbench.runtime.seeds import derive_rng

IntMatrix = NDArray[np.int64]

N_DIRECTIONS = 64
"""Number of random directions to project larger descriptors onto, with random signs (Achlioptas, 2003)."""

FEATURE_STEPS = 2**20
"""The integer that the largest feature is scaled to (up to a factor of 2)."""
STEPS_PER_DEVIATION, MAX_STANDARDISED = 64, 512
"""Integer units of a standardised feature per mean absolute deviation, and the value it is clipped to."""
MAX_PROJECTED = 2**20
"""Bound on the absolute value of a projected feature."""

NO_IMAGE = -1
READ_BATCH, COMPARE_BATCH = 1024, 512  # images at a time

_cache: WeakKeyDictionary[ImageFeatures, IntMatrix] = WeakKeyDictionary()


def content_of(images: ImageFeatures) -> IntMatrix:
    """Return the descriptors of images, (images, at most N_DIRECTIONS) int64.

    The sum of the region features, centred, with each dimension divided by its mean absolute deviation, and projected
    onto directions of random signs. The directions depend on the number of dimensions only.
    """
    if images not in _cache:
        _cache[images] = _projected(_standardised(_sums(images)))
    return _cache[images]


def _sums(images: ImageFeatures) -> IntMatrix:
    """Return the features of images summed over their regions, (images, D), in units of FEATURE_STEPS."""
    sums = np.empty((len(images), images.dim), np.float64)
    for start in range(0, len(images), READ_BATCH):
        some = images.take(np.arange(start, min(start + READ_BATCH, len(images)))).astype(np.float64)
        total = some[:, 0].copy()
        for region in range(1, images.n_regions):  # in this order on every machine
            total += some[:, region]
        sums[start : start + READ_BATCH] = total
    # Scaling by powers of two is exact.
    _, exponent = np.frexp(np.abs(sums).max(initial=0.0))
    return np.rint(np.ldexp(sums, int(np.log2(FEATURE_STEPS)) - int(exponent))).astype(np.int64)


def _standardised(sums: IntMatrix) -> IntMatrix:
    """Return each dimension centred, in units of its mean absolute deviation / STEPS_PER_DEVIATION, and clipped."""
    if len(sums) == 0:
        return sums
    centred = sums - sums.sum(axis=0) // len(sums)
    deviation = np.maximum(np.abs(centred).sum(axis=0) // len(sums), 1)
    steps: IntMatrix = np.clip(
        (STEPS_PER_DEVIATION * centred + deviation // 2) // deviation, -MAX_STANDARDISED, MAX_STANDARDISED
    )
    return steps


def _projected(standardised: IntMatrix) -> IntMatrix:
    dim = standardised.shape[1]
    if dim <= N_DIRECTIONS:
        return standardised
    rng = derive_rng(0, "noise", "content", dim)
    bits = (raw_integers(rng, dim * N_DIRECTIONS) >> np.uint64(63)).astype(np.float64)
    signs = bits.reshape(dim, N_DIRECTIONS) * 2 - 1
    # Floating-point sums of integers below 2**53 are exact in any order.
    found = (standardised.astype(np.float64) @ signs).astype(np.int64)
    return found >> max(0, int(MAX_STANDARDISED * dim).bit_length() - int(MAX_PROJECTED).bit_length())


def distances(content: IntMatrix, some: IntVector) -> NDArray[np.float64]:
    """Return the exact squared distances, integers in float64, from `some` images (n,) to all: (n, images)."""
    points = content.astype(np.float64)
    squares = (points**2).sum(axis=1)
    found: NDArray[np.float64] = squares[some, None] + squares - 2 * (points[some] @ points.T)
    return found


def nearest(content: IntMatrix, some: IntVector, k: int) -> IntMatrix:
    """Return the `k` nearest neighbours of `some` images (n,), sorted by number: (n, k) int64, padded with NO_IMAGE.

    Images at distance 0 look the same and do not count as neighbours. Ties go to the lower number.
    """
    found = np.full((len(some), k), NO_IMAGE, np.int64)
    for start in range(0, len(some), COMPARE_BATCH):
        away = distances(content, some[start : start + COMPARE_BATCH])
        away[away == 0] = np.inf
        kth = min(k, away.shape[1]) - 1
        limits = np.partition(away, kth, axis=1)[:, kth]
        for row, (each, limit) in enumerate(zip(away, limits, strict=True), start):
            closer = np.flatnonzero(each < limit)
            ties = np.flatnonzero((each == limit) & np.isfinite(each))[: k - len(closer)]
            chosen = np.union1d(closer, ties)
            found[row, : len(chosen)] = chosen
    return found
