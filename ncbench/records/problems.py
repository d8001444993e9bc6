"""Records that cannot be read or are not consistent: what commands name, and leave out or mark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ncbench.errors import UserError

FAILS = "fails verification"
"""How tables mark the results of records that are not consistent."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with the record in `folder`, in one line; `left_out`: it could not be read at all."""

    folder: Path
    text: str
    left_out: bool

    @property
    def line(self) -> str:
        """The folder and the problem in one line, with what it means for tables."""
        text = self.text if str(self.folder) in self.text else f"{self.folder}: {self.text}"
        return f"{text} ({'left out' if self.left_out else FAILS})"

    @property
    def dataset(self) -> str:
        """The dataset whose folder holds the record."""
        return self.folder.parts[-3] if len(self.folder.parts) > 2 else ""


OnProblem = Callable[[Problem], object]


def stop(problem: Problem) -> None:
    """Raise the problem as UserError: what is done unless the caller collects problems."""
    raise UserError(problem.text)
