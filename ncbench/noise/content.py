"""A fixed descriptor space of images, with distances and nearest neighbours.

After the sums over regions, all arithmetic is on integers. So noise that depends on it is the same on every machine, in
whatever order its libraries add.
"""

from __future__ import annotations

from collections.abc import Iterator
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
_COMPARED = 2**23  # distances at a time: 64 MiB
_GROUPS_PER_NEIGHBOUR = 64

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
    _, exponent = np.frexp(max(sums.max(initial=0.0), -sums.min(initial=0.0)))
    shift = int(np.log2(FEATURE_STEPS)) - int(exponent)
    found = sums.view(np.int64)  # in place, as the matrix may take gigabytes
    for rows in _batches(len(sums)):
        found[rows] = np.rint(np.ldexp(sums[rows], shift)).astype(np.int64)
    return found


def _standardised(sums: IntMatrix) -> IntMatrix:
    """Turn sums, in place, into units of their mean absolute deviation / STEPS_PER_DEVIATION from the mean, clipped."""
    if len(sums) == 0:
        return sums
    sums -= sums.sum(axis=0) // len(sums)
    total = np.zeros(sums.shape[1], np.int64)
    for rows in _batches(len(sums)):
        total += np.abs(sums[rows]).sum(axis=0)
    deviation = np.maximum(total // len(sums), 1)
    for rows in _batches(len(sums)):
        steps = (STEPS_PER_DEVIATION * sums[rows] + deviation // 2) // deviation
        sums[rows] = np.clip(steps, -MAX_STANDARDISED, MAX_STANDARDISED)
    return sums


def _projected(standardised: IntMatrix) -> IntMatrix:
    dim = standardised.shape[1]
    if dim <= N_DIRECTIONS:
        return standardised
    rng = derive_rng(0, "noise", "content", dim)
    bits = (raw_integers(rng, dim * N_DIRECTIONS) >> np.uint64(63)).astype(np.float64)
    signs = bits.reshape(dim, N_DIRECTIONS) * 2 - 1
    found = np.empty((len(standardised), N_DIRECTIONS), np.int64)
    for rows in _batches(len(standardised)):
        # Floating-point sums of integers below 2**53 are exact in any order.
        found[rows] = (standardised[rows].astype(np.float64) @ signs).astype(np.int64)
    return found >> max(0, int(MAX_STANDARDISED * dim).bit_length() - int(MAX_PROJECTED).bit_length())


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + READ_BATCH) for start in range(0, count, READ_BATCH))


class Points:
    """Images as points, between which distances are computed. They are exact: integers in float64."""

    def __init__(self, content: IntMatrix) -> None:
        self._points = content.astype(np.float64)
        self._squares = (self._points**2).sum(axis=1)

    def __len__(self) -> int:
        return len(self._points)

    def distances(self, some: IntVector, others: IntVector | None = None) -> NDArray[np.float64]:
        """Return the squared distances from `some` images (n,) to `others` (m,), by default to all: (n, m)."""
        points, squares = self._points, self._squares
        if others is not None:
            points, squares = points[others], squares[others]
        found: NDArray[np.float64] = self._points[some] @ points.T
        found *= -2
        found += squares
        found += self._squares[some, None]
        return found


def nearest(content: IntMatrix, some: IntVector, k: int) -> IntMatrix:
    """Return the `k` nearest neighbours of `some` images (n,), sorted by number: (n, k) int64, padded with NO_IMAGE.

    Images at distance 0 look the same and do not count as neighbours. Ties go to the lower number. All images are
    compared, so time grows with n times their number; memory does not, as few are compared at a time.
    """
    found, points = np.full((len(some), k), NO_IMAGE, np.int64), Points(content)
    step = max(1, _COMPARED // max(1, len(points)))
    for start in range(0, len(some), step):
        away = points.distances(some[start : start + step])
        away[away == 0] = np.inf
        # The nearest are among those within the k-th smallest of the minima of groups, which are few.
        rows, images = np.divmod(np.flatnonzero(away <= _limits(away, k)[:, None]), len(points))
        order = np.lexsort((images, away[rows, images], rows))
        order = order[np.isfinite(away[rows, images][order])]
        rows, images = rows[order], images[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < k
        rows, images, place = rows[kept], images[kept], place[kept]
        found[start + rows, place] = images[np.lexsort((images, rows))]
    return found


def _limits(away: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return for each row a number that at least `k` of its values, if it has so many, are not above."""
    groups = min(_GROUPS_PER_NEIGHBOUR * k, away.shape[1])  # value i is in group i % groups
    minima = away[:, :groups].copy()
    for start in range(groups, away.shape[1], groups):
        some = away[:, start : start + groups]
        np.minimum(minima[:, : some.shape[1]], some, out=minima[:, : some.shape[1]])
    kth = min(k, minima.shape[1]) - 1
    limits: NDArray[np.float64] = np.partition(minima, kth, axis=1)[:, kth]
    return limits
