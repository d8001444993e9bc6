"""Filling silhouettes, against a naive test of every pixel in rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ncbench.data.scenes.graph import CATEGORIES
from ncbench.data.scenes.outlines import trace
from ncbench.data.scenes.silhouettes import SILHOUETTES, UNIT
from ncbench.data.scenes.tables import ONE, cosine_by_degree, sine_by_degree

X, Y, RADIUS, DOT, MARGIN = 5_000, 6_000, 1_290, 64, 4


def corners(part: np.ndarray, rotation: int) -> list[tuple[int, int]]:
    cosine, sine = cosine_by_degree(rotation), sine_by_degree(rotation)
    return [
        (X + (px * cosine - py * sine) * RADIUS // (ONE * UNIT), Y + (px * sine + py * cosine) * RADIUS // (ONE * UNIT))
        for px, py in part.tolist()
    ]


def inside(x: int, y: int, polygon: list[tuple[int, int]]) -> bool:
    """Return whether a ray to the left crosses an odd number of edges; crossings are rounded down to whole units."""
    crossed = 0
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            crossed += x0 + Fraction((y - y0) * (x1 - x0), y1 - y0).__floor__() <= x
    return crossed % 2 == 1


@pytest.mark.parametrize("category", CATEGORIES)
def test_against_a_naive_implementation(category: str) -> None:
    rotation = 3 * CATEGORIES.index(category) - 20
    window = trace(category, X, Y, RADIUS, rotation, DOT, MARGIN)
    expected = np.zeros(window.paints.shape, np.uint8)
    for part in SILHOUETTES[category]:
        polygon = corners(part.points, rotation)
        for row in range(expected.shape[0]):
            for column in range(expected.shape[1]):
                x, y = ((place * DOT + DOT // 2) for place in (window.left + column, window.top + row))
                if inside(x, y, polygon):
                    expected[row, column] = 1 + part.paint
    np.testing.assert_array_equal(window.paints, expected)


def test_a_margin_surrounds_the_object() -> None:
    paints = trace("star", X, Y, RADIUS, 0, DOT, MARGIN).paints
    assert not paints[: MARGIN - 1].any()
    assert not paints[:, : MARGIN - 1].any()
    assert not paints[-MARGIN + 1 :].any()
    assert not paints[:, -MARGIN + 1 :].any()
