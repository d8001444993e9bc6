"""What a Slurm job does: one run, in as many allocations as it takes.

Slurm sends SIGUSR2 (submitit's choice) shortly before the time is up, and SIGTERM before it takes the node away or the
job is to end. Both let the run save its state at the next update. After the former, submitit's checkpoint hook has the
job queued again; after the latter Slurm does so itself, or the job was cancelled.
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
from ncbench.records.store import Store
from ncbench.sweeps.grid import Grid, PlannedRun
from ncbench.sweeps.record import SweepRecord, listening
from ncbench.training.run import CHECKPOINT, Cadence

if TYPE_CHECKING:
    from ncbench.sweeps.execution import Outcome

AGAIN = signal.SIGUSR2  # submitit's
VAIN = 3  # allocations in a row without a new checkpoint


@dataclass
class RunJob:
    """The run of `spec`, planned anew from `cell` where the job executes; `since` is as of `listening`."""

    cell: Grid
    spec: RunSpec
    record: SweepRecord
    since: str
    device: str
    cadence: Cadence
    max_memory: int | None
    reached: int = -1
    in_vain: int = 0

    def __call__(self) -> str:
        """Execute the run, or go on with it; return how it ended."""
        from ncbench.runtime.signals import ask, asked, on_signals

        have_queued = signal.getsignal(AGAIN)
        with on_signals(AGAIN), listening(self.record, lambda: ask(signal.SIGTERM), self.since):
            _divide_threads()
            outcome = self._execute()
            stopped_by = asked()
        status = "waiting" if outcome is None else outcome.status
        print(f"{self.spec.id}: {status}", flush=True)
        if stopped_by == AGAIN and status in ("waiting", "interrupted") and callable(have_queued):
            have_queued(AGAIN, None)  # ends this process
        return status

    def checkpoint(self) -> Any:
        """Return what is to go on in the next allocation: submitit's hook. None after too many in vain."""
        from submitit.helpers import DelayedSubmission

        from ncbench.training.checkpoint import latest_number

        store = Store(self.record.root)
        reached = latest_number(store.folder(self.spec) / CHECKPOINT)
        self.in_vain = 0 if reached > self.reached else self.in_vain + 1
        self.reached = reached
        if self.in_vain >= VAIN:
            words = f"no new checkpoint in {VAIN} allocations; give them longer, with --slurm time=..."
            store.note(self.spec, "failed", f"{words}\n")
            return None
        return DelayedSubmission(self)

    def _execute(self) -> Outcome | None:
        from ncbench.runtime.device import cap_memory, choose_device
        from ncbench.sweeps.execution import run_sweep

        store = Store(self.record.root)
        try:
            run, device = self._planned(), choose_device(self.device)
            if self.max_memory is not None:
                cap_memory(device, self.max_memory)
            return next(run_sweep([run], store, device, Unwatched(), self.cadence), None)
        except UserError as error:
            store.note(self.spec, "failed", f"{error}\n")
            raise

    def _planned(self) -> PlannedRun:
        from ncbench.sweeps.grid import plan_sweep

        (run,) = plan_sweep(self.cell)
        if run.spec.id != self.spec.id:
            raise UserError(
                f"run {self.spec.id} would be {run.spec.id} here: its method or its data have changed since it was "
                "submitted; give the command of the sweep again."
            )
        return run


class Unwatched:
    """Nobody watches: what there is to see is in the folder of records."""

    def started(self, index: int) -> None:
        """A run begins."""

    def progressed(self, index: int, progress: Progress) -> None:
        """A run has got somewhere."""

    def ended(self, index: int, outcome: Outcome) -> None:
        """A run is over."""


def _divide_threads() -> None:
    """Take as many threads as the job was given cores, where Slurm does not confine it to them."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdigit() and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, int(given)))


def log_of(folder: Path, job: str) -> Path:
    """Return the file with what a job printed as errors."""
    return folder / f"{job}_0_log.err"
