"""List plugins; a broken one gives a warning and does not hide the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import click

from ncbench.cli.display.output import print_table
from ncbench.cli.display.verbosity import verbosity
from ncbench.errors import UserError
from ncbench.plugins.discovery import Described

P = TypeVar("P")


def list_plugins(found: Iterable[Described[P] | UserError]) -> list[Described[P]]:
    """Return the plugins; print a one-line warning for each that is broken."""
    plugins = []
    for each in found:
        if isinstance(each, Described):
            plugins.append(each)
        elif not verbosity().quiet:
            click.echo(f"Warning: {each}", err=True)
    return plugins


def print_plugins(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], plugins: Iterable[Described[P]]
) -> None:
    """Print a row per plugin, with the files that define those that are not installed, if there are any."""
    files = [plugin.file for plugin in plugins]
    if any(files):
        columns = [*columns, "file (not run)"]
        rows = [(*row, str(file or "")) for row, file in zip(rows, files, strict=True)]
    print_table(title, columns, rows)
