"""Graceful stopping: on Ctrl-C or SIGTERM, runs save their state and end instead of the process being killed."""

from __future__ import annotations

import signal
import sys
import threading
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


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Inside the block, SIGTERM raises SystemExit instead of killing the process, so that nothing is left half-done.

    This is for the time before and after `catch_signals`. It changes nothing outside the main thread, or if SIGTERM has
    a handler or is ignored.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) == _end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    print(f"Stopped by {signal.Signals(number).name}.", file=sys.stderr)
    raise SystemExit(128 + number)
