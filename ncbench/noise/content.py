"""A fixed descriptor space of images, and which of them lie close to each other in it.

Everything from the sums over regions on is computed in whole numbers, so that noise that depends on it is the same on
every machine, whatever order its libraries add in.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import ImageFeatures, IntVector
from ncbench.noise.sampling import raw_integers
from ncbench.runtime.seeds import derive_rng

IntMatrix = NDArray[np.int64]

DIRECTIONS = 64
"""Random directions onto which descriptors of more dimensions are projected (Achlioptas, 2003: signs will do)."""

FINE, CLIP, LARGEST = 2**20, 512, 2**20
"""Steps that the largest feature has, that a standardised one may have, and that a projected one may have."""
STEPS = 64
"""Steps of a standardised feature per mean absolute deviation."""

NONE = -1
READ, COMPARED = 1024, 512  # images at a time

_KNOWN: WeakKeyDictionary[ImageFeatures, IntMatrix] = WeakKeyDictionary()


def content_of(images: ImageFeatures) -> IntMatrix:
    """Return where images lie in the descriptor space, (images, at most DIRECTIONS) int64.

    Sums of their region features, centred, each dimension in units of its mean absolute deviation, and projected onto
    directions of random signs that are the same for all training sets of as many dimensions.
    """
    if images not in _KNOWN:
        _KNOWN[images] = _projected(_standardised(_sums(images)))
    return _KNOWN[images]


def _sums(images: ImageFeatures) -> IntMatrix:
    """Return the features of images, (images, D), summed over their regions, in FINE steps of the largest one."""
    sums = np.empty((len(images), images.dim), np.float64)
    for start in range(0, len(images), READ):
        some = images.take(np.arange(start, min(start + READ, len(images)))).astype(np.float64)
        total = some[:, 0].copy()
        for region in range(1, images.n_regions):  # in this order on every machine
            total += some[:, region]
        sums[start : start + READ] = total
    # Powers of two only: they change no digit.
    _, exponent = np.frexp(np.abs(sums).max(initial=0.0))
    return np.rint(np.ldexp(sums, int(np.log2(FINE)) - int(exponent))).astype(np.int64)


def _standardised(sums: IntMatrix) -> IntMatrix:
    """Return each dimension centred, in STEPS of its mean absolute deviation, within CLIP."""
    if len(sums) == 0:
        return sums
    centred = sums - sums.sum(axis=0) // len(sums)
    deviation = np.maximum(np.abs(centred).sum(axis=0) // len(sums), 1)
    steps: IntMatrix = np.clip((STEPS * centred + deviation // 2) // deviation, -CLIP, CLIP)
    return steps


def _projected(standardised: IntMatrix) -> IntMatrix:
    dim = standardised.shape[1]
    if dim <= DIRECTIONS:
        return standardised
    rng = derive_rng(0, "noise", "content", dim)
    signs = (raw_integers(rng, dim * DIRECTIONS) >> np.uint64(63)).astype(np.float64).reshape(dim, DIRECTIONS) * 2 - 1
    # Sums of whole numbers below 2**53 are exact in floating point, in any order.
    found = (standardised.astype(np.float64) @ signs).astype(np.int64)
    return found >> max(0, int(CLIP * dim).bit_length() - int(LARGEST).bit_length())


def distances(content: IntMatrix, some: IntVector) -> NDArray[np.float64]:
    """Return squared distances from `some` images (n,) to all, (n, images); whole numbers, exactly."""
    points = content.astype(np.float64)
    squares = (points**2).sum(axis=1)
    found: NDArray[np.float64] = squares[some, None] + squares - 2 * (points[some] @ points.T)
    return found


def nearest(content: IntMatrix, some: IntVector, k: int) -> IntMatrix:
    """Return the `k` nearest other images of `some` (n,), (n, k) int64 by number; NONE where there are not so many.

    Images at distance 0 look the same and are no others. Of two at one distance, that of the lower number is nearer.
    """
    found = np.full((len(some), k), NONE, np.int64)
    for start in range(0, len(some), COMPARED):
        away = distances(content, some[start : start + COMPARED])
        away[away == 0] = np.inf
        kth = min(k, away.shape[1]) - 1
        limits = np.partition(away, kth, axis=1)[:, kth]
        for row, (each, limit) in enumerate(zip(away, limits, strict=True), start):
            closer = np.flatnonzero(each < limit)
            ties = np.flatnonzero((each == limit) & np.isfinite(each))[: k - len(closer)]
            chosen = np.union1d(closer, ties)
            found[row, : len(chosen)] = chosen
    return found
