"""Durations, sizes and courses in words."""

from __future__ import annotations

import pytest

from ncbench.cli.display.quantities import duration, hours, size, sparkline


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (5390, "90 min"), (7200, "2.0 h"), (3 * 86400, "3.0 d")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(36, "0.01 h"), (7200, "2 h"), (45000, "12 h"), (1e6, "278 h")])
def test_durations_in_hours(seconds: float, words: str) -> None:
    assert hours(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3.5 * 2**30, "3.5 GiB"), (2**42, "4.0 TiB")]
)
def test_sizes_in_words(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(("values", "bars"), [([0.0, 7.0], "▁█"), ([5.0, 5.0, 5.0], "███"), ([0, 1, 2, 3], "▁▃▆█")])
def test_sparklines(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


def test_long_sparklines_keep_their_course() -> None:
    assert sparkline([float(value) for value in range(1000)]) == sparkline([float(value) for value in range(40)])
    assert sparkline([0.0] * 999 + [7.0])[-2:] == "▁█"
