"""Time that training spends outside of backbones, by what it is spent on: the budget of FLOPs does not see it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_seconds: dict[str, float] = {}
_inside: list[str] = []


@contextmanager
def timed(use: str) -> Iterator[None]:
    """Count the time inside, or in a function that this decorates, as spent on `use`; what is nested counts once."""
    if _inside:
        yield
        return
    _inside.append(use)
    since = time.perf_counter()
    try:
        yield
    finally:
        _inside.pop()
        _seconds[use] = _seconds.get(use, 0.0) + time.perf_counter() - since


def spent() -> dict[str, float]:
    """Return the seconds of each use so far, in this process."""
    return dict(_seconds)


def begin(seconds: Mapping[str, float]) -> None:
    """Begin to count anew, from what was spent before."""
    _seconds.clear()
    _seconds.update(seconds)
