"""Printing: JSON or a rich table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click


def print_json(content: object) -> None:
    """Print `content` as JSON to standard output."""
    click.echo(json.dumps(content, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; the first column to the left, all others as they are."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    # A table in a pipe must not be cut to the 80 columns that a pipe is taken to have.
    console.print(table, width=None if console.is_terminal else 200)


def as_text(values: Mapping[str, object]) -> str:
    """Return `a=1, b=2` of a mapping."""
    return ", ".join(f"{key}={value}" for key, value in values.items())
