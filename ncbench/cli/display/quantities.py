"""Durations, sizes and courses in words a person reads at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 40


def duration(seconds: float) -> str:
    """Return a duration, rounded as an estimate deserves: 40 s, 12 min, 5.5 h, 3.2 d."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def hours(seconds: float) -> str:
    """Return a duration in hours: 0.012 h, 5.5 h, 310 h."""
    found = seconds / 3600
    return f"{found:.0f} h" if found >= 100 else f"{found:.2g} h"


def size(count: float) -> str:
    """Return a number of bytes with its unit: 512 B, 3.1 KiB, 2.0 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def sparkline(values: Sequence[float]) -> str:
    """Return a bar per value, of at most MOST_BARS that are evenly spaced, from the lowest to the highest."""
    if len(values) > MOST_BARS:
        values = [values[round(bar * (len(values) - 1) / (MOST_BARS - 1))] for bar in range(MOST_BARS)]
    low, high = min(values), max(values)
    if low == high:
        return BARS[-1] * len(values)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in values)
