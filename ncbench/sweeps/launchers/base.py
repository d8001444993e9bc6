"""What every launcher is given, and what it gives."""

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
from ncbench.training.run import USUAL, Cadence


@dataclass(frozen=True)
class Sweep:
    """Planned `runs` of a grid, in the order in which they are to be executed, and how they are.

    `device` is as the user named it, as it is chosen where a run executes, and `jobs` how many may execute at a time,
    None for as many as the launcher finds fit. Each may take `max_memory` bytes of its device. `record` is the sweep's
    own in the store.
    """

    grid: Grid
    runs: Sequence[PlannedRun]
    store: Store
    record: SweepRecord
    device: str = "auto"
    jobs: int | None = None
    cadence: Cadence = USUAL
    max_memory: int | None = None

    def waiting(self) -> list[int]:
        """Return the places of the runs that have no result. Raises UserError for a record that cannot be read."""
        return [index for index, run in enumerate(self.runs) if self.store.find(run.spec) is None]


class Launcher(ABC):
    """Where the runs of a sweep execute. The records are the same wherever that is."""

    name: ClassVar[str]
    after_stop: ClassVar[str] = "what the others have trained is saved. The same command goes on from there."
    """What becomes of the runs that are not done when the launching process is asked to stop."""

    def check(self, device: str) -> None:
        """Raise UserError for what can be known not to work before anything is planned; `device` as in a Sweep."""
        choose_device(device)

    @abstractmethod
    def slots(self, sweep: Sweep) -> int | None:
        """Return how many of the waiting runs will execute at a time; None where that is not known here."""

    @abstractmethod
    def launch(self, sweep: Sweep, observer: Observer) -> Iterator[Outcome]:
        """Execute the runs that have no result; yield the outcome of each, as they come.

        A run that fails does not stop the others. Once this process is asked to stop, no further run begins. Raises
        UserError for what cannot be launched at all, and for a record that cannot be read or written.
        """


def keep(sweep: Sweep, observer: Observer, waiting: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcomes of the runs that are not `waiting`: they have a result already."""
    for index in sorted(set(range(len(sweep.runs))) - set(waiting)):
        spec = sweep.runs[index].spec
        outcome = Outcome(spec, "kept", sweep.store.folder(spec), sweep.store.find(spec))
        observer.started(index)
        observer.ended(index, outcome)
        yield outcome
