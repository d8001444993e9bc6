"""Forks of this process: functions that run in a process of their own, which ends with this one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType

import torch

CAN_FORK = sys.platform == "linux"
"""Whether forks are safe: elsewhere, system libraries do not survive them."""

SHUTDOWN_SECONDS = 10.0
PROBE_SECONDS = 2.0
PR_SET_PDEATHSIG = 1


class Fork:
    """A fork of this process that calls `main` with the end of a pipe, and ends; `pipe` is the other end.

    Leaving the context waits for it. If it does not end by itself, as this process was interrupted, it gets SIGTERM,
    and SIGKILL in the end.
    """

    def __init__(self, main: Callable[[Connection], None]) -> None:
        threads = torch.get_num_threads() if threads_survive() else 1
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        self.process = _fork()
        if self.process == 0:
            self.pipe.close()
            torch.set_num_threads(threads)
            _call(main, theirs)
        theirs.close()  # so that the pipe closes when the process ends

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.process, number)

    def __enter__(self) -> Fork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pipe.close()
        since, asked = time.monotonic(), False
        with suppress(ChildProcessError):
            while os.waitpid(self.process, os.WNOHANG) == (0, 0):
                waited = time.monotonic() - since
                if waited > SHUTDOWN_SECONDS:
                    self.signal(signal.SIGKILL)
                elif waited > 1 and not asked:
                    asked = True
                    self.signal(signal.SIGTERM)
                time.sleep(0.001)


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()  # or both processes would write what it holds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of ours hold no lock that a fork needs
        return os.fork()


def _call(main: Callable[[Connection], None], pipe: Connection) -> None:
    """Call `main` in the fork, and end it: nothing else that it inherited may run at its end."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        main(pipe)
        status = 0
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        os._exit(status)


def threads_survive() -> bool:
    """Return whether torch can use several threads in a fork of this process.

    They hang, with GNU's OpenMP, if torch has used several threads here before. A fork tries.
    """
    if torch.get_num_threads() == 1:
        return True
    child = _fork()
    if child == 0:
        torch.ones(2**20).add_(1)
        os._exit(0)
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
