"""Observers of sweeps."""

from __future__ import annotations

from ncbench.execution import Outcome


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
