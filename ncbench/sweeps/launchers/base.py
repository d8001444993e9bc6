"""The launcher interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ncbench.records.store import Store
from ncbench.runtime.device import choose_device
from ncbench.sweeps.execution import Observer, Outcome
from ncbench.sweeps.grid import Grid, PlannedRun
from ncbench.sweeps.record import SweepRecord
from ncbench.training.run import DEFAULT_CADENCE, Cadence


@dataclass(frozen=True)
class Sweep:
    """The planned `runs` of a grid in execution order, and the options for executing them.

    `device` is the name given by the user; it is resolved on the machine that executes the run. `jobs` is the number of
    parallel runs, or None for the launcher's default. `max_memory` limits the device memory of each run, in bytes.
    """

    grid: Grid
    runs: Sequence[PlannedRun]
    store: Store
    record: SweepRecord
    device: str = "auto"
    jobs: int | None = None
    cadence: Cadence = DEFAULT_CADENCE
    max_memory: int | None = None

    def waiting(self) -> list[int]:
        """Return the indices of runs without a result. Raises UserError if a record cannot be read."""
        return [index for index, run in enumerate(self.runs) if self.store.find(run.spec) is None]


class Launcher(ABC):
    """Executes the runs of a sweep. All launchers write the same records."""

    name: ClassVar[str]
    resume_hint: ClassVar[str] = "Unfinished runs are saved. Rerun the same command to resume."
    """Message about unfinished runs, printed when the launching process is stopped."""

    def check(self, device: str) -> None:
        """Raise UserError if runs cannot execute on this machine; `device` as in Sweep. Called before planning."""
        choose_device(device)

    @abstractmethod
    def slots(self, sweep: Sweep) -> int | None:
        """Return the number of runs that will execute in parallel, or None if unknown."""

    @abstractmethod
    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute the runs that have no result; yield outcomes as runs end.

        A failed run does not stop the others. No run starts after a stop request. Raises UserError if runs cannot be
        launched, and if a record cannot be read or written.
        """


def finished_outcomes(sweep: Sweep, observer: Observer, waiting: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcomes of the runs that are not `waiting`: those with a result."""
    for index in sorted(set(range(len(sweep.runs))) - set(waiting)):
        spec = sweep.runs[index].spec
        outcome = Outcome(spec, "kept", sweep.store.folder(spec), sweep.store.find(spec))
        observer.started(index)
        observer.ended(index, outcome)
        yield outcome
