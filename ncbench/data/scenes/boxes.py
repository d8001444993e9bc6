"""Proposing boxes of object-like areas from the pixels of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ncbench.data.scenes.planes import Plane, Planes

Mask = NDArray[np.bool_]

N_REGIONS = 8
_N_PROPOSALS = N_REGIONS - 2  # besides the foreground and the background

_LUMA_WEIGHT = 0.5  # backgrounds vary more in brightness than in colour
_FIT_STEP = 3  # the fit uses every third row and column
_FIT_REACHES = (0.2, 0.1, 0.1, 0.1)  # per round: largest distance to the previous fit of the pixels to fit
_FIT_TERMS = (3, 6, 6, 6)  # per round: a plane, then a quadratic surface
_FIT_MIN_PIXELS = 60  # with fewer, the fit is not refined
_RIM_START = 0.86  # of the way from the centre to the border; the rim gives the initial guess
_WEAK_DIFFERENCE, _STRONG_DIFFERENCE = 0.12, 0.22  # an area of weak difference counts if it contains strong difference
_MIN_AREA = 24  # in pixels
_HUE_BINS = 24
_HUE_SHARE = 0.04  # a peak of hues must hold this share of the foreground's chroma
_HUE_SPREAD = 3  # in bins; of the peaks within it, only the highest is kept
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
    difference = np.sqrt(squares[..., 0] + squares[..., 1] + squares[..., 2])
    difference = ndimage.gaussian_filter(difference, 0.7, truncate=3)
    labels, count = ndimage.label(difference > _WEAK_DIFFERENCE)
    strong = np.zeros(count + 1, bool)
    strong[labels[difference > _STRONG_DIFFERENCE]] = True
    strong[0] = False
    return np.asarray(ndimage.binary_opening(ndimage.binary_fill_holes(strong[labels]), _OPENING), bool)


def _opponent(planes: Planes) -> NDArray[np.float32]:
    """Return red-green, yellow-blue and weighted brightness per pixel, (H, W, 3)."""
    red, green, blue = np.moveaxis(planes.rgb, 2, 0)
    return np.stack([red - green, (red + green) / 2 - blue, _LUMA_WEIGHT * planes.luma], axis=2)


@cache
def _surface_basis(height: int, width: int) -> NDArray[np.float32]:
    """Return the terms of a quadratic surface over [-1, 1] x [-1, 1], (height, width, 6)."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)


def _fit_background(opponent: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a quadratic surface per channel, fitted to pixels close to the rim's colour, then to the previous fit."""
    full_basis = _surface_basis(*opponent.shape[:2])
    basis = full_basis[::_FIT_STEP, ::_FIT_STEP].reshape(-1, full_basis.shape[2])
    pixels = opponent[::_FIT_STEP, ::_FIT_STEP].reshape(len(basis), -1)
    rim = np.maximum(abs(basis[:, 1]), abs(basis[:, 2])) > _RIM_START
    weights = np.zeros((basis.shape[1], pixels.shape[1]), np.float32)
    weights[0] = np.median(pixels[rim], axis=0)
    for reach, terms in zip(_FIT_REACHES, _FIT_TERMS, strict=True):
        near = ((pixels - basis @ weights) ** 2).sum(axis=1) < reach**2
        if near.sum() < _FIT_MIN_PIXELS:
            break
        used = basis[near, :terms]
        gram = used.T @ used + np.float32(1e-3) * np.eye(terms, dtype=np.float32)
        weights[:terms] = np.linalg.solve(gram, used.T @ pixels[near])
    return full_basis @ weights


def _split_by_hue(planes: Planes, foreground: Mask) -> list[Box]:
    """Return the connected areas of the foreground that share one of its main hues."""
    bins = (planes.hue * _HUE_BINS).astype(np.int64) % _HUE_BINS
    weights = np.where(foreground, planes.chroma, np.float32(0))
    pieces: list[Box] = []
    peaks = _main_hues(bins, weights)
    if not len(peaks):
        return pieces
    # The hue of dark and grey pixels means little, so neighbours vote.
    votes = [_blur(np.where(_hue_distance(bins, peak) <= 1, weights, np.float32(0))) for peak in peaks]
    winner = np.where(foreground, np.argmax(votes, axis=0), -1)
    for number in range(len(peaks)):
        labels, _ = ndimage.label(ndimage.binary_opening(winner == number, _OPENING))
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[rows, columns] == label
            if mask.sum() >= _MIN_AREA:
                pieces.append(Box(rows.start, columns.start, rows.stop, columns.stop, mask))
    return pieces


def _main_hues(bins: NDArray[np.int64], weights: Plane) -> NDArray[np.int64]:
    """Return the peaks of the weighted hue histogram, as bin numbers."""
    histogram = np.bincount(bins.ravel(), weights.ravel(), _HUE_BINS)
    smooth = ndimage.convolve1d(histogram, (0.25, 0.5, 0.25), mode="wrap")
    highest = ndimage.maximum_filter1d(smooth, _HUE_SPREAD, mode="wrap")
    return np.flatnonzero((smooth >= highest) & (smooth > _HUE_SHARE * smooth.sum()))


def _hue_distance(bins: NDArray[np.int64], peak: np.int64) -> NDArray[np.int64]:
    away = abs(bins - peak)
    return np.asarray(np.minimum(away, _HUE_BINS - away))


def _blur(plane: Plane) -> Plane:
    return np.asarray(ndimage.gaussian_filter(plane, 1.2, truncate=3), np.float32)


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
