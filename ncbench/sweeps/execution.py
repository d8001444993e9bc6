"""Execution of planned runs. Processes that share a records folder never execute the same run twice."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import torch

from ncbench.data.cache import cache_root
from ncbench.errors import UserError, error_message, location_of
from ncbench.noise.storage import save_noise
from ncbench.records.lease import Lease, take
from ncbench.records.progress import Progress, ProgressFile
from ncbench.records.record import noise_path
from ncbench.records.result import Result
from ncbench.records.spec import RunSpec
from ncbench.records.store import Status, Store
from ncbench.runtime.guard import close_places
from ncbench.runtime.signals import Stopped, stop_signal
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.run import DEFAULT_CADENCE, Cadence, Run
from ncbench.training.trainer import Diverged

POLL_SECONDS = 2.0  # between checks of runs that other processes execute

FAILURES = ("failed", "diverged", "over-memory")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run. `kept` means that it was already done, `running` that another process executes it."""

    spec: RunSpec
    status: Status | Literal["kept"]
    folder: Path
    result: Result | None = None
    error: Exception | None = None
    location: str = ""
    """Where in the file of the method the error is, as " (my_method.py, line 12)"; "" if it is not there."""

    @property
    def message(self) -> str:
        """The error in one line; "" without one."""
        if self.error is None:
            return ""
        return error_message(self.error).rstrip(".") + self.location


class Observer(Protocol):
    """Receives the events of a sweep; runs are identified by their index in the plan."""

    def started(self, index: int) -> None:
        """A run has started."""

    def progressed(self, index: int, progress: Progress) -> None:
        """A run has made progress."""

    def ended(self, index: int, outcome: Outcome) -> None:
        """A run has ended."""


class Executor(Protocol):
    """Executes one run, as `execute` does."""

    def __call__(
        self,
        run: PlannedRun,
        store: Store,
        device: torch.device,
        on_progress: Callable[[Progress], None],
        cadence: Cadence = DEFAULT_CADENCE,
    ) -> Outcome:
        """Return the outcome."""


def execute(
    run: PlannedRun,
    store: Store,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    cadence: Cadence = DEFAULT_CADENCE,
) -> Outcome:
    """Execute one run of a sweep, unless it has a result or another process is executing it.

    An exception in the run becomes its outcome; the traceback is written to `error.txt`. Raises UserError if the record
    cannot be read or written.
    """
    try:
        return _execute_once(run, store, device, on_progress, cadence)
    except OSError as error:
        if not _is_below(error.filename, store.root):
            raise
        raise UserError(
            f"{error.filename}: {error.strerror}. Finished runs are safe. Fix the problem and rerun the same command "
            "to resume."
        ) from error


def _execute_once(
    run: PlannedRun, store: Store, device: torch.device, on_progress: Callable[[Progress], None], cadence: Cadence
) -> Outcome:
    folder = store.folder(run.spec)
    found = store.find(run.spec)
    if found is not None and not store.is_untidy(run.spec):
        return Outcome(run.spec, "kept", folder, found)
    with take(folder) as lease:
        if lease is None:
            return Outcome(run.spec, "running", folder)
        found = store.find(run.spec)  # another process may have finished it in the meantime
        if found is not None:
            store.tidy(run.spec)
            return Outcome(run.spec, "kept", folder, found)
        try:
            return _execute(run, store, device, on_progress, cadence, lease)
        except Stopped:  # another process has taken over, and may have finished
            return Outcome(run.spec, "running", folder)


def _execute(
    run: PlannedRun,
    store: Store,
    device: torch.device,
    on_progress: Callable[[Progress], None],
    cadence: Cadence,
    lease: Lease,
) -> Outcome:
    folder = store.start(run.spec)
    close_places([store.root, cache_root(), *(stamp.path.parent for stamp in run.dataset.files)])
    if run.cell is not None and run.cell.data_root is not None:
        close_places([run.cell.data_root])
    save_noise(run.noise, noise_path(store.root, run.spec))
    progress_file = ProgressFile(folder)

    def progressed(progress: Progress) -> None:
        progress_file(progress)
        on_progress(progress)

    try:
        result = Run(
            run.spec,
            run.dataset,
            run.noise,
            run.method,
            folder,
            device,
            progressed,
            cadence,
            should_stop=lambda: lease.lost or stop_signal() is not None,
        ).execute()
    except Stopped:
        if lease.lost:
            return Outcome(run.spec, "running", folder)
        store.note(run.spec, "interrupted")
        return Outcome(run.spec, "interrupted", folder)
    except OSError as error:
        if not _is_below(error.filename, store.root):
            return _failed(run, store, folder, error)
        with suppress(OSError):
            store.note(run.spec, "interrupted")
        raise
    except Exception as error:
        return _failed(run, store, folder, error)
    store.clear_outcome(run.spec)
    progress_file.remove()
    return Outcome(run.spec, "done", folder, result)


def _failed(run: PlannedRun, store: Store, folder: Path, error: Exception) -> Outcome:
    store.note(run.spec, status_of(error), "".join(traceback.format_exception(error)))
    location = "" if isinstance(error, UserError) else location_of(error)
    return Outcome(run.spec, status_of(error), folder, error=error, location=location)


def _is_below(name: object, root: Path) -> bool:
    return isinstance(name, str | Path) and Path(name).absolute().is_relative_to(root.absolute())


def status_of(error: Exception) -> Status:
    """Return the status of a run that raised `error`."""
    if isinstance(error, Diverged):
        return "diverged"
    # On the CPU, torch reports lack of memory as a RuntimeError that names its allocator.
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "over-memory"
    return "failed"


def run_sweep(
    runs: Sequence[PlannedRun],
    store: Store,
    device: torch.device,
    observer: Observer,
    cadence: Cadence = DEFAULT_CADENCE,
    *,
    executor: Executor | None = None,
) -> Iterator[Outcome]:
    """Execute the runs that have no result one after another; yield the outcome of each.

    `executor` executes a run: `execute` in this process, which is the default and for tests only, or `execute_apart`
    (`ncbench.sweeps.fresh_process`).

    A failed run does not stop the others. Runs that other processes execute are skipped and waited for at the end; they
    are executed here if those processes die. No run starts after a stop request.
    """
    waiting, elsewhere = deque(range(len(runs))), 0  # `elsewhere`: consecutive waiting runs that others execute
    while waiting and stop_signal() is None:
        if elsewhere == len(waiting):
            time.sleep(POLL_SECONDS)
            elsewhere = 0
        index = waiting.popleft()
        observer.started(index)
        outcome = (executor or execute)(runs[index], store, device, partial(observer.progressed, index), cadence)
        if outcome.status == "running":
            waiting.append(index)
            elsewhere += 1
            continue
        elsewhere = 0
        observer.ended(index, outcome)
        yield outcome
