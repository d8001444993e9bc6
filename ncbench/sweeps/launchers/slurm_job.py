"""The Slurm job of one run, which may need several allocations.

Slurm sends SIGUSR2 (submitit's choice) shortly before the time limit, and SIGTERM before preemption or cancellation.
After both, the run saves its state at the next update. After SIGUSR2, submitit's checkpoint hook requeues the job;
after preemption, Slurm requeues it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncbench.errors import UserError
from ncbench.records.progress import Progress
from ncbench.records.spec import RunSpec
from ncbench.records.store import CHECKPOINT, Store
from ncbench.sweeps.grid import Grid, PlannedRun
from ncbench.sweeps.record import SweepRecord, watch_for_stop
from ncbench.training.run import Cadence

if TYPE_CHECKING:
    from ncbench.sweeps.execution import Outcome

REQUEUE_SIGNAL = signal.SIGUSR2  # sent by submitit
MAX_STALLED = 3  # consecutive allocations without a new checkpoint


@dataclass
class RunJob:
    """A job for the run `spec`, planned again from `cell` on the node. Stop requests after `since` are obeyed."""

    cell: Grid
    spec: RunSpec
    record: SweepRecord
    since: str
    device: str
    cadence: Cadence
    max_memory: int | None
    last_checkpoint: tuple[int, int] = (-1, 0)
    stalled: int = 0

    def __call__(self) -> str:
        """Execute or resume the run; return its status."""
        from ncbench.runtime.signals import catch_signals, request_stop, stop_signal

        requeue = signal.getsignal(REQUEUE_SIGNAL)
        with (
            catch_signals(REQUEUE_SIGNAL),
            watch_for_stop(self.record, lambda: request_stop(signal.SIGTERM), self.since),
        ):
            _limit_threads()
            outcome = self._execute()
            stopped_by = stop_signal()
        status = "waiting" if outcome is None else outcome.status
        print(f"{self.spec.id}: {status}", flush=True)
        if stopped_by == REQUEUE_SIGNAL and status in ("waiting", "interrupted") and callable(requeue):
            requeue(REQUEUE_SIGNAL, None)  # ends this process
        return status

    def checkpoint(self) -> Any:
        """Return the job for the next allocation, or None if too many made no progress; a hook called by submitit."""
        from submitit.helpers import DelayedSubmission

        from ncbench.evaluation.unfinished import scored_at
        from ncbench.training.checkpoint import latest_number

        store = Store(self.record.root)
        folder = store.folder(self.spec) / CHECKPOINT
        checkpoint = latest_number(folder), scored_at(folder)
        self.stalled = 0 if checkpoint > self.last_checkpoint else self.stalled + 1
        self.last_checkpoint = checkpoint
        if self.stalled >= MAX_STALLED:
            message = f"no new checkpoint in {MAX_STALLED} allocations; request more time with --slurm time=..."
            store.note(self.spec, "failed", f"{message}\n")
            return None
        return DelayedSubmission(self)

    def _execute(self) -> Outcome | None:
        from ncbench.runtime.device import check_cap, choose_device
        from ncbench.sweeps.execution import run_sweep
        from ncbench.sweeps.fresh_process import apart

        store = Store(self.record.root)
        try:
            run, device = self._planned(), choose_device(self.device)
            if self.max_memory is not None:
                check_cap(device)
            executor = apart(self.max_memory)
            return next(run_sweep([run], store, device, NullObserver(), self.cadence, executor=executor), None)
        except UserError as error:
            store.note(self.spec, "failed", f"{error}\n")
            raise

    def _planned(self) -> PlannedRun:
        from ncbench.sweeps.grid import plan_sweep

        (run,) = plan_sweep(self.cell)
        if run.spec.id != self.spec.id:
            raise UserError(
                f"run {self.spec.id} has become {run.spec.id}: its method, backbone or dataset changed after it was "
                "submitted. Rerun the command of the sweep."
            )
        return run


class NullObserver:
    """A sweep observer that does nothing; progress is visible in the records folder."""

    def started(self, index: int) -> None:
        """A run has started."""

    def progressed(self, index: int, progress: Progress) -> None:
        """A run has made progress."""

    def ended(self, index: int, outcome: Outcome) -> None:
        """A run has ended."""


def _limit_threads() -> None:
    """Use one thread per core of the job, as not every cluster confines jobs to their cores."""
    cores = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if cores.isdigit() and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, int(cores)))


def log_of(folder: Path, job: str) -> Path:
    """Return the file with the standard error of a job."""
    return folder / f"{job}_0_log.err"
