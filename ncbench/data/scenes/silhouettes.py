"""The outlines of the categories: stacks of polygons in a square of side 2 * UNIT around the origin, y downward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT = 1_024
"""Units of length of the outlines: the radius of an object. Points are whole numbers; see `tables` on rounding."""

BODY, DARK, PALE, INK = range(4)  # paint of a part: colour and texture, darker, paler, nearly black


@dataclass(frozen=True)
class Part:
    """A polygon, (n, 2) int64 in 1 / UNIT, and its paint."""

    paint: int
    points: NDArray[np.int64]

    @staticmethod
    def of(paint: int, points: NDArray[np.float64]) -> Part:
        """Return the polygon through `points`, in multiples of an object's radius."""
        return Part(paint, np.rint(points * UNIT).astype(np.int64))


def _polygon(*points: tuple[float, float], paint: int = BODY) -> Part:
    return Part.of(paint, np.array(points, np.float64))


def _ellipse(x: float, y: float, rx: float, ry: float, paint: int = BODY, arc: tuple[float, float] = (0, 360)) -> Part:
    """Return an ellipse, or its arc between two angles in degrees (0 is right, 90 is down)."""
    angles = np.radians(np.linspace(*arc, 33))
    return Part.of(paint, np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1))


def _star(points: int, outer: float, inner: float, paint: int = BODY) -> Part:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return Part.of(paint, np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _heart() -> Part:
    t = np.linspace(0, 2 * math.pi, 49)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return Part.of(BODY, np.stack([x / 17, y / 16], axis=1))


def _crescent() -> Part:
    outer = np.radians(np.linspace(50, 310, 33))
    inner = np.radians(np.linspace(292, 68, 33))
    rim = np.stack([0.25 + np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([0.6 + 0.83 * np.cos(inner), 0.83 * np.sin(inner)], axis=1)
    return Part.of(BODY, np.concatenate([rim, bite]))


def _petals(count: int) -> Sequence[Part]:
    angles = np.arange(count) * 2 * math.pi / count - math.pi / 2
    return [_ellipse(0.58 * math.cos(a), 0.58 * math.sin(a), 0.4, 0.4) for a in angles]


SILHOUETTES: dict[str, Sequence[Part]] = {
    "house": (
        _polygon((-0.75, -0.15), (0.75, -0.15), (0.75, 0.9), (-0.75, 0.9)),
        _polygon((-1, -0.1), (0, -0.95), (1, -0.1), paint=DARK),
        _polygon((-0.18, 0.3), (0.18, 0.3), (0.18, 0.9), (-0.18, 0.9), paint=INK),
        _polygon((0.36, 0.1), (0.62, 0.1), (0.62, 0.36), (0.36, 0.36), paint=PALE),
        _polygon((-0.62, 0.1), (-0.36, 0.1), (-0.36, 0.36), (-0.62, 0.36), paint=PALE),
    ),
    "tree": (
        _polygon((-0.16, 0.5), (0.16, 0.5), (0.16, 1), (-0.16, 1), paint=DARK),
        _polygon((0, -1), (0.5, -0.3), (-0.5, -0.3)),
        _polygon((0, -0.6), (0.66, 0.15), (-0.66, 0.15)),
        _polygon((0, -0.2), (0.8, 0.62), (-0.8, 0.62)),
    ),
    "star": (_star(5, 1, 0.42),),
    "car": (
        _polygon((-0.55, -0.05), (-0.3, -0.5), (0.35, -0.5), (0.62, -0.05), paint=DARK),
        _polygon((-0.33, -0.08), (-0.2, -0.38), (0, -0.38), (0, -0.08), paint=PALE),
        _polygon((0.08, -0.08), (0.08, -0.38), (0.28, -0.38), (0.43, -0.08), paint=PALE),
        _polygon((-1, 0.02), (-0.9, -0.1), (0.85, -0.1), (1, 0.1), (1, 0.42), (-1, 0.42)),
        _ellipse(-0.52, 0.44, 0.25, 0.25, INK),
        _ellipse(0.52, 0.44, 0.25, 0.25, INK),
    ),
    "fish": (
        _polygon((0.35, 0), (1, -0.5), (0.85, 0), (1, 0.5), paint=DARK),
        _polygon((-0.25, -0.4), (0.25, -0.7), (0.3, -0.3), paint=DARK),
        _ellipse(-0.2, 0, 0.78, 0.48),
        _ellipse(-0.62, -0.1, 0.09, 0.09, INK),
    ),
    "cup": (
        _ellipse(0.6, 0, 0.38, 0.42, DARK),
        _ellipse(0.6, 0, 0.2, 0.24, PALE),
        _polygon((-0.8, -0.7), (0.6, -0.7), (0.45, 0.8), (-0.65, 0.8)),
        _ellipse(-0.1, -0.7, 0.7, 0.16, DARK),
    ),
    "boat": (
        _polygon((-0.06, -1), (0.06, -1), (0.06, 0.4), (-0.06, 0.4), paint=INK),
        _polygon((0.12, -0.95), (0.8, 0.25), (0.12, 0.25)),
        _polygon((-0.12, -0.7), (-0.12, 0.25), (-0.62, 0.25), paint=PALE),
        _polygon((-1, 0.38), (1, 0.38), (0.65, 0.88), (-0.65, 0.88), paint=DARK),
    ),
    "flower": (*_petals(6), _ellipse(0, 0, 0.3, 0.3, INK)),
    "kite": (
        _polygon((-0.05, 0.4), (0.05, 0.4), (0.22, 1), (-0.22, 1), paint=DARK),
        _polygon((0, -1), (0.62, -0.3), (0, 0.7), (-0.62, -0.3)),
    ),
    "heart": (_heart(),),
    "moon": (_crescent(),),
    "mushroom": (
        _polygon((-0.24, 0), (0.24, 0), (0.34, 0.9), (-0.34, 0.9), paint=PALE),
        _ellipse(0, 0.12, 0.95, 0.95, arc=(180, 360)),
    ),
    "umbrella": (
        _polygon((-0.05, 0), (0.05, 0), (0.05, 0.8), (-0.05, 0.8), paint=INK),
        _polygon((-0.3, 0.72), (0.05, 0.72), (0.05, 0.88), (-0.3, 0.88), paint=INK),
        _ellipse(0, 0.05, 1, 0.9, arc=(180, 360)),
        _ellipse(-0.67, 0.05, 0.33, 0.14, DARK, (180, 360)),
        _ellipse(0, 0.05, 0.33, 0.14, DARK, (180, 360)),
        _ellipse(0.67, 0.05, 0.33, 0.14, DARK, (180, 360)),
    ),
    "rocket": (
        _polygon((-0.3, 0.2), (-0.68, 0.85), (-0.2, 0.6), paint=DARK),
        _polygon((0.3, 0.2), (0.68, 0.85), (0.2, 0.6), paint=DARK),
        _polygon((0, -1), (0.22, -0.75), (0.36, -0.3), (0.36, 0.65), (-0.36, 0.65), (-0.36, -0.3), (-0.22, -0.75)),
        _ellipse(0, -0.22, 0.17, 0.17, PALE),
        _polygon((-0.2, 0.65), (0.2, 0.65), (0, 1), paint=PALE),
    ),
    "bird": (
        _polygon((0.3, 0.05), (1, -0.1), (0.92, 0.4), (0.2, 0.45), paint=DARK),
        _ellipse(0, 0.18, 0.68, 0.5),
        _ellipse(-0.55, -0.3, 0.34, 0.34),
        _polygon((-0.82, -0.42), (-1.1, -0.22), (-0.82, -0.12), paint=INK),
        _polygon((-0.1, 0), (0.5, -0.75), (0.42, 0.15), paint=DARK),
        _ellipse(-0.62, -0.36, 0.08, 0.08, INK),
    ),
    "cactus": (
        _ellipse(0, -0.66, 0.27, 0.27),
        _polygon((-0.27, -0.66), (0.27, -0.66), (0.27, 0.95), (-0.27, 0.95)),
        _polygon((-0.85, -0.4), (-0.55, -0.4), (-0.55, 0.1), (0, 0.1), (0, 0.4), (-0.85, 0.4)),
        _polygon((0.85, -0.6), (0.55, -0.6), (0.55, -0.1), (0, -0.1), (0, 0.2), (0.85, 0.2)),
    ),
}
