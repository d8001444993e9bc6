"""Being asked to stop: Ctrl-C and SIGTERM let a run save its state and end, instead of ending the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_asked: list[int] = []  # the signals that have come


class Stopped(BaseException):
    """A run has ended before its time, because it was asked to."""


def ask(number: int, frame: FrameType | None = None) -> None:
    """Ask all runs of this process to stop: a handler of signals. Who asks twice by Ctrl-C is not made to wait."""
    if _asked and number == signal.SIGINT:
        raise KeyboardInterrupt
    _asked.append(number)


def asked() -> signal.Signals | None:
    """Return the signal that asked first; None as long as none has."""
    return signal.Signals(_asked[0]) if _asked else None


@contextmanager
def on_signals(*more: signal.Signals) -> Iterator[None]:
    """Take Ctrl-C, SIGTERM and `more` signals as requests to stop inside, in the main thread."""
    _asked.clear()
    before = {number: signal.signal(number, ask) for number in (*SIGNALS, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
