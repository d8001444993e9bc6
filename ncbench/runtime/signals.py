"""Graceful stopping: on Ctrl-C or SIGTERM, runs save their state and end instead of the process being killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: list[int] = []


class Stopped(BaseException):
    """A run ended early because a stop was requested."""


def request_stop(number: int, frame: FrameType | None = None) -> None:
    """Request all runs of this process to stop; a signal handler. A second Ctrl-C raises KeyboardInterrupt."""
    if _received and number == signal.SIGINT:
        raise KeyboardInterrupt
    _received.append(number)


def stop_signal() -> signal.Signals | None:
    """Return the first signal that requested a stop, or None."""
    return signal.Signals(_received[0]) if _received else None


@contextmanager
def catch_signals(*more: signal.Signals) -> Iterator[None]:
    """Treat SIGINT, SIGTERM and `more` signals as stop requests inside the block. Main thread only."""
    _received.clear()
    before = {number: signal.signal(number, request_stop) for number in (*SIGNALS, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
