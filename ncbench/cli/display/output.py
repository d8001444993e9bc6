"""Printing JSON and tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160


def one_line(text: str) -> str:
    """Return text from a file in one line, without the characters that a terminal obeys."""
    return "".join(each if each.isprintable() else " " for each in text)


def print_json(content: object) -> None:
    """Print `content` as JSON to standard output, with NaN as null."""
    click.echo(json.dumps(_no_nan(content), indent=2, allow_nan=False, default=str))


def _no_nan(content: object) -> object:
    if isinstance(content, float) and math.isnan(content):
        return None
    if isinstance(content, Mapping):
        return {key: _no_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_no_nan(value) for value in content]
    return content


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Print a table to standard output; the columns named in `numbers` are right-aligned."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def console(to_stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or PIPE_WIDTH if output goes to a pipe or file."""
    from rich.console import Console

    found = Console(stderr=to_stderr)
    return found if found.is_terminal else Console(stderr=to_stderr, width=PIPE_WIDTH)
