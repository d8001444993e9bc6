"""Training time spent outside the networks, by use (for example, mixture fits). FLOP budgets do not include it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_seconds: dict[str, float] = {}
_inside: list[str] = []


@contextmanager
def timed(use: str) -> Iterator[None]:
    """Count the time in this block, or decorated function, as spent on `use`. Nested blocks count for the outermost."""
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
    """Return the seconds spent in this process by use."""
    return dict(_seconds)


def reset(seconds: Mapping[str, float]) -> None:
    """Reset the counts to `seconds`, spent before a resume."""
    _seconds.clear()
    _seconds.update(seconds)
