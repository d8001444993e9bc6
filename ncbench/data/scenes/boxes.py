"""Proposing boxes of object-like areas from the pixels of a picture, with the same result on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ncbench.data.scenes.planes import HUE_TURN, Plane, Planes, smoothed

Mask = NDArray[np.bool_]

N_REGIONS = 8
_N_PROPOSALS = N_REGIONS - 2  # besides the foreground and the background

# Colours are compared as red-green, yellow-blue and half the brightness, in 510ths.
_FIT_STEP = 3  # the fit uses every third row and column
_FIT_REACHES = (102, 51, 51, 51)  # per round: largest distance to the previous fit of the pixels to fit
_FIT_TERMS = (3, 6, 6, 6)  # per round: a plane, then a quadratic surface
_FIT_MIN_PIXELS = 60  # with fewer, the fit is not refined
_RIM_START = 27  # of 31 steps from the centre to the border; the rim gives the initial guess
_WEAK_DIFFERENCE, _STRONG_DIFFERENCE = 61, 112  # an area of weak difference counts if it contains strong difference
_DIFFERENCE_SCALE = 16 * 16  # of the smoothed difference
_MIN_AREA = 24  # in pixels
_HUE_BINS = 24
_HUE_SHARE = 25  # a peak of hues must hold a 25th of the foreground's chroma
_OPENING = np.ones((2, 2), bool)


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right` (ends excluded), and a mask of the pixels that count."""

    top: int
    left: int
    bottom: int
    right: int
    mask: Mask  # (bottom - top, right - left)


def propose(planes: Planes) -> list[Box]:
    """Return N_REGIONS boxes: the foreground, the background, then object-like areas, largest first.

    If there are too few areas, fixed parts of the picture (centre, quarters, lower half) follow.
    """
    foreground = find_foreground(planes)
    areas = _split_by_hue(planes, foreground)
    areas.sort(key=lambda box: -int(box.mask.sum()))
    boxes = [_around(foreground), _around(~foreground), *areas[:_N_PROPOSALS]]
    return boxes + _fixed_parts(foreground)[: N_REGIONS - len(boxes)]


def find_foreground(planes: Planes) -> Mask:
    """Return the pixels that differ from a smooth background fitted to the picture, (H, W) bool."""
    opponent = _opponent(planes)
    squares = (opponent - _fit_background(opponent)) ** 2
    distance = np.sqrt((squares[..., 0] + squares[..., 1] + squares[..., 2]).astype(np.float64))
    difference = smoothed(np.rint(16 * distance).astype(np.int32))
    labels, count = ndimage.label(difference > _WEAK_DIFFERENCE * _DIFFERENCE_SCALE)
    strong = np.zeros(count + 1, bool)
    strong[labels[difference > _STRONG_DIFFERENCE * _DIFFERENCE_SCALE]] = True
    strong[0] = False
    return np.asarray(ndimage.binary_opening(_without_holes(strong[labels]), _OPENING), bool)


def _without_holes(mask: Mask) -> Mask:
    """Return `mask` and the pixels that it separates from the border."""
    labels, count = ndimage.label(~mask)
    outside = np.zeros(count + 1, bool)
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[rim] = True
    return np.asarray(mask | ~outside[labels])


def _opponent(planes: Planes) -> NDArray[np.int32]:
    """Return red-green, yellow-blue and half the brightness per pixel in 510ths, (H, W, 3) int32."""
    red, green, blue = np.moveaxis(planes.rgb, 2, 0)
    return np.stack([2 * (red - green), red + green - 2 * blue, planes.luma], axis=2)


@cache
def _surface_basis(height: int, width: int) -> NDArray[np.float64]:
    """Return the terms of a quadratic surface, (height, width, 6): whole numbers, as coordinates are from the centre.

    The unit is half a pixel.
    """
    y, x = np.mgrid[1 - height : height : 2, 1 - width : width : 2].astype(np.float64)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)


def _fit_background(opponent: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a quadratic surface per channel, fitted to pixels close to the rim's colour, then to the previous fit.

    Sums are of whole numbers below 2**53, which are exact in any order. The rest is single operations on float64, which
    IEEE 754 defines to the last bit.
    """
    height, width = opponent.shape[:2]
    full_basis = _surface_basis(height, width)
    basis = full_basis[::_FIT_STEP, ::_FIT_STEP].reshape(-1, full_basis.shape[2])
    pixels = opponent[::_FIT_STEP, ::_FIT_STEP].reshape(len(basis), -1).astype(np.float64)
    rim = np.maximum(abs(basis[:, 1]) * 31 / width, abs(basis[:, 2]) * 31 / height) > _RIM_START
    surface = np.zeros(pixels.shape)
    surface += np.rint(np.median(pixels[rim], axis=0))
    weights = [np.rint(np.median(pixels[rim], axis=0)), *[np.zeros(pixels.shape[1])] * 5]
    for reach, terms in zip(_FIT_REACHES, _FIT_TERMS, strict=True):
        squares = (pixels - surface) ** 2
        near = squares[:, 0] + squares[:, 1] + squares[:, 2] < reach**2
        if near.sum() < _FIT_MIN_PIXELS:
            break
        used = basis[near, :terms]
        weights[:terms] = _solve(used.T @ used, used.T @ pixels[near])
        surface = _surface(basis, weights)
    return np.rint(_surface(full_basis, weights)).astype(np.int32)


def _surface(basis: NDArray[np.float64], weights: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the weighted sum of the terms of `basis` (..., 6), added in order."""
    total = np.zeros((*basis.shape[:-1], len(weights[0])))
    for term, weight in enumerate(weights):
        total += basis[..., term, None] * weight
    return total


def _solve(gram: NDArray[np.float64], right: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the rows x of gram @ x = right for a positive definite `gram`, by elimination, one operation at a time."""
    rows = np.concatenate([gram, right], axis=1)
    size = len(rows)
    rows[np.arange(size), np.arange(size)] += 1.0  # no picture is too plain
    for pivot in range(size):
        rows[pivot] /= rows[pivot, pivot]
        for other in range(size):
            if other != pivot:
                rows[other] -= rows[other, pivot] * rows[pivot]
    return list(rows[:, size:])


def _split_by_hue(planes: Planes, foreground: Mask) -> list[Box]:
    """Return the connected areas of the foreground that share one of its main hues."""
    bins = planes.hue * _HUE_BINS // HUE_TURN
    weights = np.where(foreground, planes.chroma, 0)
    pieces: list[Box] = []
    peaks = _main_hues(bins, weights)
    if not len(peaks):
        return pieces
    # The hue of dark and grey pixels means little, so neighbours vote.
    votes = [smoothed(smoothed(np.where(_hue_distance(bins, peak) <= 1, weights, 0))) for peak in peaks]
    winner = np.where(foreground, np.argmax(votes, axis=0), -1)
    for number in range(len(peaks)):
        labels, _ = ndimage.label(ndimage.binary_opening(winner == number, _OPENING))
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[rows, columns] == label
            if mask.sum() >= _MIN_AREA:
                pieces.append(Box(rows.start, columns.start, rows.stop, columns.stop, mask))
    return pieces


def _main_hues(bins: Plane, weights: Plane) -> NDArray[np.int64]:
    """Return the peaks of the weighted hue histogram, as bin numbers; of neighbours, only the highest."""
    histogram = np.bincount(bins.ravel(), weights.ravel(), _HUE_BINS).astype(np.int64)
    smooth = np.roll(histogram, 1) + 2 * histogram + np.roll(histogram, -1)
    highest = np.maximum(np.maximum(np.roll(smooth, 1), np.roll(smooth, -1)), smooth)
    return np.flatnonzero((smooth >= highest) & (_HUE_SHARE * smooth > smooth.sum()))


def _hue_distance(bins: Plane, peak: np.int64) -> Plane:
    away = abs(bins - int(peak))
    return np.minimum(away, _HUE_BINS - away)


def _around(mask: Mask) -> Box:
    """Return the tight box around `mask`, or the whole picture if the mask is empty."""
    if not mask.any():
        return Box(0, 0, mask.shape[0], mask.shape[1], np.ones_like(mask))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Box(top, left, bottom, right, mask[top:bottom, left:right])


def _fixed_parts(foreground: Mask) -> list[Box]:
    """Return the centre, the quarters and the lower half, masked by the foreground if there is enough of it."""
    height, width = foreground.shape
    h, w = height // 2, width // 2
    corners = [(h // 2, w // 2), (0, 0), (0, w), (h, 0), (h, w)]
    spans = [(top, left, top + h, left + w) for top, left in corners] + [(h, 0, height, width)]
    parts = []
    for top, left, bottom, right in spans:
        mask = foreground[top:bottom, left:right]
        enough = mask.sum() >= _MIN_AREA
        parts.append(Box(top, left, bottom, right, mask if enough else np.ones_like(mask)))
    return parts
