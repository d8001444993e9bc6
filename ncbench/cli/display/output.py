"""Printing JSON and tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ncbench.runtime.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
MANY_ROWS = 100
"""Longer tables are drawn without rich, if no cell needs a second line."""


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


def say(text: str, command: str = "", indent: int = 0) -> None:
    """Print a sentence to standard output, broken between words where the terminal is narrower; in one line in pipes.

    A `command` to copy follows it, on a line of its own if both do not fit on one. Lines after the first are indented
    by `indent`.
    """
    from rich.cells import cell_len

    whole = f"{text} {command}" if command else text
    shown = console()
    width = shown.width
    if cell_len(whole) <= width or not _has_width(shown):
        click.echo(whole)
        return
    for number, line in enumerate(_lines(text, width, indent)):
        click.echo(" " * indent * (number > 0) + line)
    if command:
        click.echo(f"  {command}")


def _lines(text: str, width: int, indent: int = 0) -> list[str]:
    """Return text in lines of at most `width` cells, the first without the `indent`; longer words are kept whole."""
    from rich.cells import cell_len

    lines: list[str] = []
    for word in text.split(" "):
        room = width - indent * (len(lines) > 1)
        if lines and cell_len(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = (), keys: int = 1
) -> None:
    """Print a table to standard output, fitted to the terminal; the columns named in `numbers` are right-aligned.

    The first `keys` columns name a row. No cell is ever cut: see `ncbench.cli.display.layout`.
    """
    from rich.table import Table
    from rich.text import Text

    from ncbench.cli.display.layout import fit

    shown, title, rows = console(), printable(title), [tuple(map(printable, row)) for row in rows]
    columns, numbers = [*map(printable, columns)], [*map(printable, numbers)]
    layout = fit(columns, rows, shown.width, fixed=numbers, keys=keys)
    heads = [(title, "italic"), (", ".join(f"{name} {value}" for name, value in layout.shared), "dim")]
    for text, style in heads:
        for line in _lines(text, shown.width) if text else ():
            shown.print(Text(line, style=style), soft_wrap=True)
    if not layout.blocks:
        _print_lists(shown, columns, rows, {name for name, _ in layout.shared})
    for block in layout.blocks:
        table = Table(header_style="bold")
        for place, width in block.items():
            column = columns[place]
            table.add_column(column, justify="right" if column in numbers else "left", width=width, overflow="fold")
        drawn = _filled(columns, rows, block, numbers) if len(rows) > MANY_ROWS else None
        for row in rows if drawn is None else rows[:1]:
            table.add_row(*(Text(row[place]) for place in block))
        if drawn is None:
            shown.print(table)
            continue
        with shown.capture() as captured:
            shown.print(table)
        *head, first, end = captured.get().splitlines()
        border = first[:1]
        body = (f"{border} {f' {border} '.join(cells)} {border}" for cells in drawn)
        shown.file.write("\n".join((*head, *body, end, "")))


def _filled(
    columns: Sequence[str], rows: Sequence[Sequence[str]], block: Mapping[int, int], numbers: Collection[str]
) -> list[list[str]] | None:
    """Return the cells of a block filled up to their widths, row by row; None unless each fits into one line.

    rich takes more than a millisecond per row.
    """
    from rich.cells import cell_len

    filled = []
    for place, width in block.items():
        cells = [row[place] for row in rows]
        blanks = [width - (len(cell) if cell.isascii() else cell_len(cell)) for cell in cells]
        if min(blanks) < 0 or any("\n" in cell for cell in cells):
            return None
        right = columns[place] in numbers
        pairs = zip(cells, blanks, strict=True)
        filled.append([" " * blank + cell if right else cell + " " * blank for cell, blank in pairs])
    return [list(cells) for cells in zip(*filled, strict=True)]


def _print_lists(
    shown: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], left_out: Collection[str]
) -> None:
    """Print each row as its first cell and, indented, the names and values of the others."""
    from rich.cells import cell_len
    from rich.text import Text

    room = shown.width - 2
    for first, *cells in rows:
        shown.print(Text(first, style="bold"), soft_wrap=True)
        lines = [""]
        for name, cell in zip(columns[1:], cells, strict=True):
            if cell and name not in left_out:
                fact = f"{name} {cell}"
                joined = f"{lines[-1]}   {fact}" if lines[-1] else fact
                lines[-1:] = [joined] if cell_len(joined) <= room else [lines[-1], *_lines(fact, room)]
        for line in filter(None, lines):
            shown.print(Text(f"  {line}"), soft_wrap=True)


def console(to_stderr: bool = False) -> Console:
    """Return a console as wide as the terminal; in a pipe or file as wide as COLUMNS says, else PIPE_WIDTH.

    It prints control characters as escapes.
    """
    from ncbench.cli.display.consoles import PrintableConsole

    found = PrintableConsole(stderr=to_stderr)
    return found if _has_width(found) else PrintableConsole(stderr=to_stderr, width=PIPE_WIDTH)


def _has_width(shown: Console) -> bool:
    """Return whether somebody reads in a window of this width, rather than a program or a file."""
    return shown.is_terminal or os.environ.get("COLUMNS", "").isdigit()
