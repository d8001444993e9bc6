"""Observers of sweeps."""

from __future__ import annotations

from ncbench.records.progress import Progress
from ncbench.sweeps.execution import Outcome


class Ends:
    """Remembers how runs ended, as (index, status)."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def started(self, index: int) -> None:
        pass

    def progressed(self, index: int, progress: object) -> None:
        pass

    def ended(self, index: int, outcome: Outcome) -> None:
        self.ends.append((index, outcome.status))


class Events:
    """Remembers all that it is told, in order, but for how far runs are."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def started(self, index: int) -> None:
        self.events.append(("started", index))

    def progressed(self, index: int, progress: Progress) -> None:
        self.events.append(("progressed", index))

    def ended(self, index: int, outcome: Outcome) -> None:
        self.events.append(("ended", index, outcome.status))
