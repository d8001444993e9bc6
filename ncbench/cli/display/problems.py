"""Records with problems, as commands name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import one_line

if TYPE_CHECKING:
    from ncbench.records.problems import Problem


class Problems:
    """Collects the problems of records, and prints each once to standard error, in one line."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        """Print a problem, even with --quiet: tables without a record must not pass for complete."""
        if problem not in self.found:
            self.found.append(problem)
            click.echo(one_line(problem.line), err=True)

    def exit(self) -> None:
        """End the command with exit code 1 if there were problems."""
        if self.found:
            records = len({problem.folder for problem in self.found})
            click.echo(f"{records} {'record has' if records == 1 else 'records have'} problems", err=True)
            raise SystemExit(1)
