"""Names at the right ends of lines: in order, apart, and no further from their lines than needed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ncbench.report.figures.lines import shown_spread, spread_out


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5, 0.5], [0.3, 0.5, 0.7]),
        ([0.0, 0.0, 0.05], [0.0, 0.2, 0.4]),
        ([0.9, 1.0, 1.0], [0.6, 0.8, 1.0]),
        ([], []),
    ],
)
def test_spread(heights: list[float], expected: list[float]) -> None:
    assert spread_out(heights, 0.2) == pytest.approx(expected)


def test_names_are_apart_in_order_and_within_the_panel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 13))
        heights = sorted(rng.choice([rng.random(), 0.02, 0.98]) * rng.random(count))
        moved = spread_out(heights, 0.075)
        assert all(upper - lower >= 0.075 - 1e-9 for lower, upper in pairwise(moved))
        assert min(moved) >= -1e-9
        assert max(moved) <= 1 + 1e-9


def test_names_that_do_not_fit_start_at_the_bottom() -> None:
    assert spread_out([0.5] * 4, 0.5) == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_spread_of_few_and_of_many_lines() -> None:
    assert shown_spread("abc", "", "a") == "band"
    assert [shown_spread("abcd", "b", name) for name in "ab"] == ["", "bars"]
