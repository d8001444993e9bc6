"""Records with problems, as commands name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import one_line

if TYPE_CHECKING:
    from ncbench.records.problems import Problem


class Problems:
    """Collects the problems of records, and prints each once to standard error, in one line.

    They are shown even with --quiet: tables without a record must not pass for complete.
    """

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self._shown = 0

    def add(self, problem: Problem) -> None:
        """Remember a problem."""
        if problem not in self.found:
            self.found.append(problem)

    def show(self) -> None:
        """Print the problems that were not printed yet."""
        for problem in self.found[self._shown :]:
            click.echo(one_line(problem.line), err=True)
        self._shown = len(self.found)

    def exit(self) -> None:
        """End the command with exit code 1 if there were problems."""
        if self.found:
            records = len({problem.folder for problem in self.found})
            click.echo(f"{records} {'record has' if records == 1 else 'records have'} problems", err=True)
            raise SystemExit(1)
