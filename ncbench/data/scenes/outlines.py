"""Filling the silhouette of an object: which drawn pixels it covers, and with which paint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.silhouettes import SILHOUETTES, UNIT
from ncbench.data.scenes.tables import ONE, cosine_by_degree, sine_by_degree

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """The drawn pixels around an object: 1 + paint of each, 0 outside the object, (h, w) uint8, and the corner."""

    paints: NDArray[np.uint8]
    left: int
    top: int


@cache
def _edges(category: str) -> tuple[_Ints, _Ints, _Ints, tuple[int, ...]]:
    """Return the starts and ends of all edges of a silhouette, (n, 2) each, the part of each, and the parts' paints."""
    parts = SILHOUETTES[category]
    starts = np.concatenate([part.points for part in parts])
    ends = np.concatenate([np.roll(part.points, -1, axis=0) for part in parts])
    owners = np.repeat(np.arange(len(parts)), [len(part.points) for part in parts])
    return starts, ends, owners, tuple(part.paint for part in parts)


def trace(category: str, x: int, y: int, radius: int, rotation: int, dot: int, margin: int) -> Window:
    """Return the pixels covered by an object of `radius` around (x, y), turned by `rotation` degrees.

    Lengths are in units of which a drawn pixel has `dot`; `margin` empty pixels surround the object. A pixel belongs to
    a part if its centre does: an odd number of the part's edges lies to the left of it.
    """
    starts, ends, owners, paints = _edges(category)
    centre = np.array((x, y))
    starts, ends = (_turned(points, radius, rotation) + centre for points in (starts, ends))
    left, top = ((starts.min(axis=0)) // dot - margin).tolist()
    right, bottom = (starts.max(axis=0) // dot + margin + 1).tolist()
    height, width = bottom - top, right - left
    rows = (np.arange(top, bottom, dtype=np.int64) * dot + dot // 2)[:, None]  # (h, 1); edges are (n,)
    (x0, y0), (x1, y1) = starts.T, ends.T
    row, edge = np.nonzero((y0 <= rows) != (y1 <= rows))
    rise = (rows[row, 0] - y0[edge]) * (x1 - x0)[edge]
    crossing = x0[edge] + rise // (y1 - y0)[edge]
    # The first column whose centre lies to the right of the crossing.
    column = np.clip((crossing - left * dot + dot - 1 - dot // 2) // dot, 0, width)
    cells = (owners[edge] * height + row) * (width + 1) + column
    crossed = np.bincount(cells, minlength=len(paints) * height * (width + 1)).reshape(len(paints), height, width + 1)
    inside = np.cumsum(crossed[..., :-1], axis=2) % 2 > 0
    window = np.zeros((height, width), np.uint8)
    for number, paint in enumerate(paints):
        window[inside[number]] = 1 + paint
    return Window(window, left, top)


def _turned(points: _Ints, radius: int, rotation: int) -> _Ints:
    cosine, sine = cosine_by_degree(rotation), sine_by_degree(rotation)
    x, y = points.T
    turned = np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)
    return turned * radius // (ONE * UNIT)
