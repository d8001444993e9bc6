"""Executes a run in a process of its own, so that nothing of it survives in modules, classes or caches.

The process is a fork of this one: it starts within milliseconds, and shares in memory the dataset and what all runs
need (see `warm_up`). Where forking is not safe (anywhere but on Linux), the run is executed in this process.
"""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

import torch

from ncbench.data.dataset import Dataset
from ncbench.data.fitting import SearchableSemantics, fitting_pairs
from ncbench.errors import UserError
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.runtime.device import cap_memory
from ncbench.runtime.environment import hide_command
from ncbench.runtime.forks import CAN_FORK, Fork
from ncbench.runtime.guard import count_cores
from ncbench.runtime.signals import request_stop, stop_signal
from ncbench.sweeps.execution import Executor, Outcome, execute
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.cost import one_thread
from ncbench.training.run import DEFAULT_CADENCE, Cadence

PROGRESS_SECONDS = 0.2
POLL_SECONDS = 0.2  # between checks for a request to stop
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
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise UserError("CUDA has been used in this process, so no run can start; use it after ncbench.run, not before")

    warm_up(run.dataset)

    def main(parent: Connection) -> None:
        _serve(parent, lambda: _execute_capped(run, store, device, Reporter(parent), cadence, max_memory))

    with Fork(main) as fork:
        return _outcome(run, store, fork, on_progress)


@one_thread()
def warm_up(dataset: Dataset) -> None:
    """Load and compute here, once, what every run on `dataset` would in its own process: a second or two of each."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimiser imports 800 modules
    count_cores()
    if isinstance(dataset.semantics, SearchableSemantics):  # they remember what they found
        with suppress(Exception):  # the run will tell
            fitting_pairs(dataset, "test")


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


def _outcome(run: PlannedRun, store: Store, fork: Fork, on_progress: Callable[[Progress], None]) -> Outcome:
    """Return the outcome that the process sends. Raises UserError if it says so.

    A request to stop goes both ways: this process passes its own on, and takes over one that only the run has got.
    """
    told = False
    while True:
        if stop_signal() is not None and not told:
            told = True
            fork.signal(signal.SIGTERM)
        if not fork.pipe.poll(POLL_SECONDS):
            continue
        try:
            kind, content = fork.pipe.recv()
        except (EOFError, OSError):
            return _died(run, store, interrupted=told)
        if kind == "refused":
            raise UserError(content)
        if kind == "ended":
            outcome, stopped_by = content
            assert isinstance(outcome, Outcome)
            if stopped_by is not None and not told:  # it alone got the signal, or got it first
                request_stop(stopped_by)
            return outcome
        on_progress(content)


def _died(run: PlannedRun, store: Store, interrupted: bool) -> Outcome:
    folder = store.folder(run.spec)
    if interrupted:  # it had lost nothing yet, or it was interrupted twice
        return Outcome(run.spec, "interrupted", folder)
    store.note(run.spec, "failed", DIED + "\n")
    return Outcome(run.spec, "failed", folder, error=RuntimeError(DIED))


def _serve(parent: Connection, function: Callable[[], Outcome]) -> None:
    """Send what `function` returns or raises to `parent`."""
    hide_command()  # it names the noise
    try:
        send(parent, ("ended", (picklable(function()), stop_signal())))
    except UserError as error:
        send(parent, ("refused", str(error)))
    except OSError as error:
        send(parent, ("refused", f"{error.filename}: {error.strerror}"))


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
        """Send it, unless the last was sent a moment ago."""
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
