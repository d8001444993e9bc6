"""A fixed descriptor of each proposed box in whole numbers, computed from the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, sqrt

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.boxes import Box, propose
from ncbench.data.scenes.planes import CORNER_SCALE, HUE_TURN, Plane, Planes
from ncbench.data.scenes.tables import SINE, TURN

Numbers = Sequence[float]

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
STEPS = 32
"""Steps per standard deviation of a rounded value; 127 steps at most."""

_SHIFT = np.concatenate([np.full(length, shift) for _, length, shift, _ in LAYOUT])
_SCALE = np.concatenate([np.full(length, scale) for _, length, _, scale in LAYOUT])
_MIN_CORE_PIXELS = 8
_EDGE_FULL = 4 * 255  # of a Sobel gradient at a step from black to white
_EIGHTHS = 8  # of a pixel: unit of distances within a mask


def region_features(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the descriptors of the regions of an RGB `picture` (H, W, 3): (N_REGIONS, DIM) float32."""
    planes = Planes.of(picture)
    return np.stack([describe(planes, box) for box in propose(planes)]).astype(np.float32) / np.float32(STEPS)


def describe(planes: Planes, box: Box) -> NDArray[np.int8]:
    """Return the standardised descriptor of one box in STEPS, (DIM,) int8.

    All sums are of whole numbers. What is divided and rounded afterwards are single operations on float64, which IEEE
    754 defines to the last bit.
    """
    window = slice(box.top, box.bottom), slice(box.left, box.right)
    core = _erode(_erode(box.mask))  # without the outline, which looks the same for all objects
    if core.sum() < _MIN_CORE_PIXELS:
        core = box.mask
    luma, corners = planes.luma[window][core], planes.corners[window][core]
    edge_x, edge_y = planes.edge_x[window][core], planes.edge_y[window][core]
    strength = np.rint(np.sqrt((edge_x**2 + edge_y**2).astype(np.float64))).astype(np.int64)
    values = [
        *_colours(planes.rgb[window][core]),
        *_hues(planes.hue[window][core], planes.chroma[window][core]),
        *_occupancy(box),
        *_orientations(edge_x, edge_y, strength),
        *_texture(luma, strength, corners),
        *_shape(box),
        *_geometry(box, planes.luma.shape),
    ]
    return np.asarray(np.clip(np.rint((np.array(values) - _SHIFT) / _SCALE * STEPS), -127, 127), np.int8)


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of `mask` whose four neighbours are in the mask."""
    wide = np.pad(mask, 1)
    return mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


def _colours(colours: NDArray[np.int32]) -> Numbers:
    """Return the mean and the standard deviation of each channel of the pixels (n, 3)."""
    sums, squares = colours.sum(axis=0, dtype=np.int64).tolist(), (colours**2).sum(axis=0, dtype=np.int64).tolist()
    means = [total / (len(colours) * 255) for total in sums]
    return means + [_deviation(len(colours), *both) / 255 for both in zip(sums, squares, strict=True)]


def _deviation(count: int, total: int, squares: int) -> float:
    return sqrt(count * squares - total * total) / count


def _hues(hue: Plane, chroma: Plane) -> Numbers:
    """Return the chroma-weighted hue histogram; each pixel is split between its two nearest bins."""
    width = HUE_TURN // _HUE_BINS
    lower, above = np.divmod(hue, width)
    histogram = np.bincount(lower, chroma * (width - above), _HUE_BINS)
    histogram += np.bincount((lower + 1) % _HUE_BINS, chroma * above, _HUE_BINS)
    total = width * (255 * len(hue) + 10 * int(chroma.sum()))
    return [10 * value / total for value in histogram.tolist()]


def _occupancy(box: Box) -> Numbers:
    """Return the share of each cell of a grid over the box that the mask covers."""
    height, width = box.mask.shape
    rows = np.arange(height) * _GRID_SIZE // height
    columns = np.arange(width) * _GRID_SIZE // width
    cells = (rows[:, None] * _GRID_SIZE + columns).ravel()
    size = _GRID_SIZE * _GRID_SIZE
    covered, all_ = np.bincount(cells[box.mask.ravel()], minlength=size), np.bincount(cells, minlength=size)
    shares: list[float] = (covered / np.maximum(all_, 1)).tolist()
    return shares


def _orientations(edge_x: Plane, edge_y: Plane, strength: NDArray[np.int64]) -> Numbers:
    """Return the shares of edge directions (modulo half a turn), weighted by strength."""
    turned = (edge_y < 0) | ((edge_y == 0) & (edge_x < 0))
    x, y = np.where(turned, -edge_x, edge_x), np.where(turned, -edge_y, edge_y)
    bins = np.zeros(len(x), np.int64)
    for number in range(1, _N_ORIENTATIONS):
        start = TURN // 2 * number // _N_ORIENTATIONS
        bins += y * int(SINE[start + TURN // 4]) >= x * int(SINE[start])
    histogram = np.bincount(bins, strength, _N_ORIENTATIONS).tolist()
    total = max(int(strength.sum()), 1)
    return [value / total for value in histogram]


def _texture(luma: Plane, edges: NDArray[np.int64], corners: Plane) -> Numbers:
    """Return the variation of brightness overall, between pixels and at corners, and the balance of dark and bright."""
    count = len(luma)
    low, middle, high = np.sort(luma)[[count // 10, count // 2, count * 9 // 10]].tolist()
    deviation = _deviation(count, int(luma.sum()), int((luma**2).sum()))
    return [
        8 * deviation / 255,
        1.5 * 4 * int(edges.sum()) / (_EDGE_FULL * count),
        15 * int(corners.sum()) / (CORNER_SCALE * 255 * count),
        2 * (middle - low) / (high - low + 5),
    ]


def _shape(box: Box) -> Numbers:
    """Return the box's aspect ratio, and the mask's fill, elongation and variation of radii."""
    height, width = box.mask.shape
    y, x = (_EIGHTHS * values for values in np.nonzero(box.mask))
    count = len(x)
    dx, dy = x - int(x.sum()) // count, y - int(y.sum()) // count
    xx, yy, xy = int((dx * dx).sum()), int((dy * dy).sum()), int((dx * dy).sum())
    spread = isqrt((xx - yy) ** 2 + (2 * xy) ** 2)  # difference of the two principal moments, whose sum is xx + yy
    radii = np.rint(np.sqrt((dx * dx + dy * dy).astype(np.float64))).astype(np.int64)
    total = int(radii.sum())
    return [
        0.5 + (width - height) / (width + height),
        count / box.mask.size,
        sqrt(max(xx + yy - spread, 0) / max(xx + yy + spread, 1)),
        _deviation(count, total, int((radii * radii).sum())) * count / (total + _EIGHTHS * count),
    ]


def _geometry(box: Box, shape: tuple[int, ...]) -> Numbers:
    """Return the box's centre and size and the square root of the mask's area, as fractions of the picture."""
    height, width = shape[:2]
    across, down = (box.left + box.right) / (2 * width), (box.top + box.bottom) / (2 * height)
    wide, high = (box.right - box.left) / width, (box.bottom - box.top) / height
    return [across, down, wide, high, sqrt(int(box.mask.sum()) / (height * width))]
