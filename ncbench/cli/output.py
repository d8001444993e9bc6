"""Printing: JSON or a rich table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160


def print_json(content: object) -> None:
    """Print `content` as JSON to standard output."""
    click.echo(json.dumps(content, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; the first column to the left, all others as they are."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def console(to_stderr: bool = False) -> Console:
    """Return a console as wide as the terminal; into a pipe or a file, wide enough that no table is cut."""
    from rich.console import Console

    found = Console(stderr=to_stderr)
    return found if found.is_terminal else Console(stderr=to_stderr, width=PIPE_WIDTH)
