"""Region features: a fixed description of each proposed box, computed from the pixels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.boxes import Box, propose
from ncbench.data.scenes.planes import Planes

Values = NDArray[np.float32]  # of the pixels in a mask, or of a group of a region's vector

_HUE_BINS = 12
_GRID = 5
_ORIENTATIONS = 8

# What a region's vector holds, in order: name, length, and the constants (shift, scale) that bring typical values
# to about mean 0 and deviation 1.
LAYOUT: tuple[tuple[str, int, float, float], ...] = (
    ("mean colour", 3, 0.5, 0.2),
    ("colour deviation", 3, 0.15, 0.08),
    ("hue histogram", _HUE_BINS, 0.08, 0.2),
    ("occupancy grid", _GRID * _GRID, 0.6, 0.35),
    ("gradient orientations", _ORIENTATIONS, 0.125, 0.06),
    ("texture energy", 4, 1.0, 0.5),
    ("shape", 4, 0.5, 0.25),
    ("geometry", 5, 0.5, 0.3),
)
DIM = sum(length for _, length, _, _ in LAYOUT)
_SHIFT = np.concatenate([np.full(length, shift) for _, length, shift, _ in LAYOUT])
_SCALE = np.concatenate([np.full(length, scale) for _, length, _, scale in LAYOUT])
_LEAST_CORE = 8  # pixels


def region_features(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features of the regions of an RGB `picture` (H, W, 3): (N_REGIONS, DIM) float32."""
    planes = Planes.of(picture)
    return np.stack([_describe(planes, box) for box in propose(planes)])


def _describe(planes: Planes, box: Box) -> Values:
    """Return the standardised description of one box, (DIM,) float32."""
    window = slice(box.top, box.bottom), slice(box.left, box.right)
    core = _erode(_erode(box.mask))  # without the outline, which all objects share
    if core.sum() < _LEAST_CORE:
        core = box.mask
    colours = planes.rgb[window][core]
    values = [
        colours.mean(axis=0),
        colours.std(axis=0),
        _hues(planes.hue[window][core], planes.chroma[window][core]),
        _occupancy(box),
        _orientations(planes.edge_direction[window][core], planes.edge_strength[window][core]),
        _texture(planes.luma[window][core], planes.edge_strength[window][core], planes.corners[window][core]),
        _shape(box),
        _geometry(box, planes.luma.shape),
    ]
    return np.asarray((np.concatenate(values) - _SHIFT) / _SCALE, np.float32)


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of `mask` whose four neighbours are in it too."""
    wide = np.pad(mask, 1)
    return mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


def _hues(hue: Values, chroma: Values) -> Values:
    """Return the chroma-weighted shares of hues, each pixel split between its two nearest bins."""
    position = hue * _HUE_BINS
    lower = position.astype(np.int64)
    upper_share = position - lower
    histogram = np.bincount(lower % _HUE_BINS, chroma * (1 - upper_share), _HUE_BINS)
    histogram += np.bincount((lower + 1) % _HUE_BINS, chroma * upper_share, _HUE_BINS)
    return np.asarray(histogram / (0.1 * len(hue) + chroma.sum()), np.float32)


def _occupancy(box: Box) -> Values:
    """Return which share of each cell of a grid over the box is covered by the mask."""
    height, width = box.mask.shape
    rows = np.arange(height) * _GRID // height
    columns = np.arange(width) * _GRID // width
    cells = (rows[:, None] * _GRID + columns).ravel()
    covered = np.bincount(cells, box.mask.ravel().astype(float), _GRID * _GRID)
    return np.asarray(covered / np.maximum(np.bincount(cells, minlength=_GRID * _GRID), 1), np.float32)


def _orientations(direction: Values, strength: Values) -> Values:
    """Return the shares of edge directions (modulo half a turn), weighted by strength."""
    bins = (direction * _ORIENTATIONS).astype(np.int64) % _ORIENTATIONS
    histogram = np.bincount(bins, strength, _ORIENTATIONS)
    return np.asarray(histogram / (strength.sum() + 1e-6), np.float32)


def _texture(luma: Values, edges: Values, corners: Values) -> Values:
    """Return how much brightness varies: overall, from pixel to pixel, at corners, and if more of it is bright."""
    low, middle, high = np.sort(luma)[[len(luma) // 10, len(luma) // 2, len(luma) * 9 // 10]]
    balance = (middle - low) / (high - low + 0.02)
    return np.array([8 * luma.std(), 1.5 * edges.mean(), 15 * corners.mean(), 2 * balance], np.float32)


def _shape(box: Box) -> Values:
    """Return the box's aspect, the mask's fill, its elongation and the unevenness of its radii."""
    height, width = box.mask.shape
    y, x = np.nonzero(box.mask)
    dx, dy = x - x.mean(), y - y.mean()
    xx, yy, xy = dx @ dx, dy @ dy, dx @ dy
    spread = np.hypot(xx - yy, 2 * xy)  # difference of the two main moments, whose sum is xx + yy
    elongation = np.sqrt(max(xx + yy - spread, 0) / (xx + yy + spread + 1e-6))
    radii = np.hypot(dx, dy)
    aspect = 0.5 + 0.5 * np.log(width / height)
    return np.array([aspect, box.mask.mean(), elongation, radii.std() / (radii.mean() + 1)], np.float32)


def _geometry(box: Box, shape: tuple[int, ...]) -> Values:
    """Return the box's centre and size and the mask's root area, as fractions of the picture."""
    height, width = shape[:2]
    across, down = (box.left + box.right) / (2 * width), (box.top + box.bottom) / (2 * height)
    wide, high = (box.right - box.left) / width, (box.bottom - box.top) / height
    return np.array([across, down, wide, high, np.sqrt(box.mask.sum() / (height * width))], np.float32)
