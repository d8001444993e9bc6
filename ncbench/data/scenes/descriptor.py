"""Region features: a fixed descriptor of each proposed box, computed from the pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.boxes import Box, propose
from ncbench.data.scenes.planes import Planes

Values = NDArray[np.float32]  # of the pixels in a mask, or a part of a region's vector

_HUE_BINS = 12
_GRID_SIZE = 5
_N_ORIENTATIONS = 8

# The parts of a region's vector in order: name, length, and the shift and scale that give typical values a mean of
# about 0 and a standard deviation of about 1.
LAYOUT: tuple[tuple[str, int, float, float], ...] = (
    ("mean colour", 3, 0.5, 0.2),
    ("colour deviation", 3, 0.15, 0.08),
    ("hue histogram", _HUE_BINS, 0.08, 0.2),
    ("occupancy grid", _GRID_SIZE * _GRID_SIZE, 0.6, 0.35),
    ("gradient orientations", _N_ORIENTATIONS, 0.125, 0.06),
    ("texture energy", 4, 1.0, 0.5),
    ("shape", 4, 0.5, 0.25),
    ("geometry", 5, 0.5, 0.3),
)
DIM = sum(length for _, length, _, _ in LAYOUT)
_SHIFT = np.concatenate([np.full(length, shift) for _, length, shift, _ in LAYOUT])
_SCALE = np.concatenate([np.full(length, scale) for _, length, _, scale in LAYOUT])
_MIN_CORE_PIXELS = 8


def region_features(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features of the regions of an RGB `picture` (H, W, 3): (N_REGIONS, DIM) float32."""
    planes = Planes.of(picture)
    return np.stack([_describe(planes, box) for box in propose(planes)])


def _describe(planes: Planes, box: Box) -> Values:
    """Return the standardised descriptor of one box, (DIM,) float32."""
    window = slice(box.top, box.bottom), slice(box.left, box.right)
    core = _erode(_erode(box.mask))  # without the outline, which looks the same for all objects
    if core.sum() < _MIN_CORE_PIXELS:
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
    """Return the pixels of `mask` whose four neighbours are in the mask."""
    wide = np.pad(mask, 1)
    return mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


def _hues(hue: Values, chroma: Values) -> Values:
    """Return the chroma-weighted hue histogram; each pixel is split between its two nearest bins."""
    position = hue * _HUE_BINS
    lower = position.astype(np.int64)
    upper_share = position - lower
    histogram = np.bincount(lower % _HUE_BINS, chroma * (1 - upper_share), _HUE_BINS)
    histogram += np.bincount((lower + 1) % _HUE_BINS, chroma * upper_share, _HUE_BINS)
    return np.asarray(histogram / (0.1 * len(hue) + chroma.sum()), np.float32)


def _occupancy(box: Box) -> Values:
    """Return the share of each cell of a grid over the box that the mask covers."""
    height, width = box.mask.shape
    rows = np.arange(height) * _GRID_SIZE // height
    columns = np.arange(width) * _GRID_SIZE // width
    cells = (rows[:, None] * _GRID_SIZE + columns).ravel()
    covered = np.bincount(cells, box.mask.ravel().astype(float), _GRID_SIZE * _GRID_SIZE)
    return np.asarray(covered / np.maximum(np.bincount(cells, minlength=_GRID_SIZE * _GRID_SIZE), 1), np.float32)


def _orientations(direction: Values, strength: Values) -> Values:
    """Return the shares of edge directions (modulo half a turn), weighted by strength."""
    bins = (direction * _N_ORIENTATIONS).astype(np.int64) % _N_ORIENTATIONS
    histogram = np.bincount(bins, strength, _N_ORIENTATIONS)
    return np.asarray(histogram / (strength.sum() + 1e-6), np.float32)


def _texture(luma: Values, edges: Values, corners: Values) -> Values:
    """Return the variation of brightness overall, between pixels and at corners, and the balance of dark and bright."""
    low, middle, high = np.sort(luma)[[len(luma) // 10, len(luma) // 2, len(luma) * 9 // 10]]
    balance = (middle - low) / (high - low + 0.02)
    return np.array([8 * luma.std(), 1.5 * edges.mean(), 15 * corners.mean(), 2 * balance], np.float32)


def _shape(box: Box) -> Values:
    """Return the box's aspect ratio, and the mask's fill, elongation and variation of radii."""
    height, width = box.mask.shape
    y, x = np.nonzero(box.mask)
    dx, dy = x - x.mean(), y - y.mean()
    xx, yy, xy = dx @ dx, dy @ dy, dx @ dy
    spread = np.hypot(xx - yy, 2 * xy)  # difference of the two principal moments, whose sum is xx + yy
    elongation = np.sqrt(max(xx + yy - spread, 0) / (xx + yy + spread + 1e-6))
    radii = np.hypot(dx, dy)
    aspect = 0.5 + 0.5 * np.log(width / height)
    return np.array([aspect, box.mask.mean(), elongation, radii.std() / (radii.mean() + 1)], np.float32)


def _geometry(box: Box, shape: tuple[int, ...]) -> Values:
    """Return the box's centre and size and the square root of the mask's area, as fractions of the picture."""
    height, width = shape[:2]
    across, down = (box.left + box.right) / (2 * width), (box.top + box.bottom) / (2 * height)
    wide, high = (box.right - box.left) / width, (box.bottom - box.top) / height
    return np.array([across, down, wide, high, np.sqrt(box.mask.sum() / (height * width))], np.float32)
