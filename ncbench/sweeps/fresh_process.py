"""Executes a run in a process of its own, so that nothing of it survives in modules, classes or caches.

The process is a fork of this one: it starts within milliseconds, and shares the dataset in memory. Where forking is not
safe (anywhere but on Linux), the run is executed in this process.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import NoReturn

import torch

from ncbench.errors import UserError
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.runtime.device import cap_memory
from ncbench.runtime.signals import request_stop, stop_signal
from ncbench.sweeps.execution import Executor, Outcome, execute
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.run import DEFAULT_CADENCE, Cadence

CAN_FORK = sys.platform == "linux"
PROGRESS_SECONDS = 0.2
POLL_SECONDS = 0.2  # between checks for a request to stop
SHUTDOWN_SECONDS = 10.0
PROBE_SECONDS = 2.0
PR_SET_PDEATHSIG = 1
DIED = "its process died; the system may have run out of memory"


def execute_apart(
    run: PlannedRun,
    store: Store,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    cadence: Cadence = DEFAULT_CADENCE,
    max_memory: int | None = None,
) -> Outcome:
    """Execute one run of a sweep like `execute`, in a process of its own. A run that has a result starts none.

    `max_memory` caps the memory of the device, in bytes. Raises UserError as `execute` does, and if CUDA has been used
    in this process, which a fork of it could not use any more.
    """
    found = store.find(run.spec)
    if found is not None:
        return Outcome(run.spec, "kept", store.folder(run.spec), found)
    if not CAN_FORK:
        return _execute_capped(run, store, device, on_progress, cadence, max_memory)
    if device.type == "cuda" and torch.cuda.is_initialized():
        raise UserError("CUDA has been used in this process, so no run can start; use it after ncbench.run, not before")
    threads = torch.get_num_threads() if threads_survive_a_fork() else 1
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = _fork()
    if child == 0:
        ours.close()
        torch.set_num_threads(threads)
        _serve(theirs, lambda: _execute_capped(run, store, device, Reporter(theirs), cadence, max_memory))
    theirs.close()
    try:
        return _outcome(run, store, child, ours, on_progress)
    finally:
        ours.close()
        _end(child)


def apart(max_memory: int | None) -> Executor:
    """Return `execute_apart` with a cap on the memory of the device."""
    return partial(execute_apart, max_memory=max_memory)


def _execute_capped(
    run: PlannedRun,
    store: Store,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    cadence: Cadence,
    max_memory: int | None,
) -> Outcome:
    if max_memory is not None:
        cap_memory(device, max_memory)
    return execute(run, store, device, on_progress, cadence)


def _outcome(
    run: PlannedRun, store: Store, child: int, pipe: Connection, on_progress: Callable[[Progress], None]
) -> Outcome:
    """Return the outcome that the process `child` sends. Raises UserError if it says so."""
    told = False
    while True:
        if stop_signal() is not None and not told:
            told = True
            _signal(child, signal.SIGTERM)
        if not pipe.poll(POLL_SECONDS):
            continue
        try:
            kind, content = pipe.recv()
        except (EOFError, OSError):
            return _died(run, store, interrupted=told)
        if kind == "refused":
            raise UserError(content)
        if kind == "ended":
            assert isinstance(content, Outcome)
            return content
        on_progress(content)


def _died(run: PlannedRun, store: Store, interrupted: bool) -> Outcome:
    folder = store.folder(run.spec)
    if interrupted:  # it had lost nothing yet, or it was interrupted twice
        return Outcome(run.spec, "interrupted", folder)
    store.note(run.spec, "failed", DIED + "\n")
    return Outcome(run.spec, "failed", folder, error=RuntimeError(DIED))


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()  # or both processes would write what it holds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: none of ours holds a lock that a run needs
        return os.fork()


def _serve(parent: Connection, function: Callable[[], Outcome]) -> NoReturn:
    """Send what `function` returns or raises to `parent`, and end this process."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        sys.argv = sys.argv[:1]  # the others name the noise
        try:
            send(parent, ("ended", picklable(function())))
        except UserError as error:
            send(parent, ("refused", str(error)))
        except OSError as error:
            send(parent, ("refused", f"{error.filename}: {error.strerror}"))
        status = 0
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        os._exit(status)  # nothing else that this process inherited may run at its end


def _signal(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _end(child: int) -> None:
    """Wait for a process to end, which it does by itself unless this one is interrupted; it is killed in the end."""
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    asked = False
    with suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            left = deadline - time.monotonic()
            if left < 0:
                _signal(child, signal.SIGKILL)
            elif left < SHUTDOWN_SECONDS - 1 and not asked:
                asked = True
                _signal(child, signal.SIGTERM)
            time.sleep(0.001)


def threads_survive_a_fork() -> bool:
    """Return whether torch can use several threads in a fork of this process.

    They hang, with GNU's OpenMP, if torch has used several threads here before. A fork tries, and is not waited for.
    """
    if torch.get_num_threads() == 1:
        return True
    child = _fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PROBE_SECONDS) + 1)
        torch.ones(2**20).add_(1)
        os._exit(0)
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.001)
    _signal(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def send(parent: Connection, message: tuple[str, object]) -> None:
    """Send a message. If the parent has died or closed the pipe, request this process to stop."""
    try:
        parent.send(message)
    except OSError:
        request_stop(signal.SIGTERM, None)


class Reporter:
    """Sends progress to the parent, at most a few times per second."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._sent = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._sent > PROGRESS_SECONDS:
            self._sent = now
            send(self._parent, ("progressed", progress))


def picklable(outcome: Outcome) -> Outcome:
    """Return the outcome with an error that can be pickled."""
    try:
        pickle.loads(pickle.dumps(outcome.error))  # noqa: S301 - pickled in the same expression
    except Exception:
        return replace(outcome, error=RuntimeError(repr(outcome.error)))
    return outcome
