"""Fitting a table to the width of a terminal without cutting a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

BORDERS = 3  # columns of the terminal that a table column takes besides its cells
MIN_TEXT = 14  # a column of sentences narrower than this is unreadable


@dataclass(frozen=True)
class Layout:
    """How a table is shown.

    `blocks` are the tables below each other, each as widths of columns by their index. It is empty if the rows are
    shown as lists of names and values. `shared` are the columns left out because all rows agree, as (name, value).
    """

    blocks: list[dict[int, int]]
    shared: list[tuple[str, str]]


def fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, fixed: Sequence[str] = (), keys: int = 1
) -> Layout:
    """Return the layout for a terminal of `width` columns.

    As needed, it leaves out columns that are the same in all rows (from the left), breaks text between words (never in
    columns named in `fixed`), splits the table into blocks that repeat the first `keys` columns, which name a row, and
    finally turns rows into lists. Columns without any content are always left out.
    """
    cells = [[*dict.fromkeys(row[place] for row in rows)] for place in range(len(columns))]
    filled = [p for p in range(len(columns)) if p == 0 or not rows or any(cells[p])]
    natural = {p: _widest(columns[p].split(), cells[p]) for p in filled}
    shared = []
    for place in list(natural)[1:]:
        if _total(natural) <= width or len(rows) < 2:
            break
        if len(cells[place]) == 1:
            del natural[place]
            shared.append((columns[place], cells[place][0]))
    least = {p: size if columns[p] in fixed else _least(columns[p], cells[p]) for p, size in natural.items()}
    if _total(least) <= width:
        return Layout([_shrunk(natural, least, width)], shared)
    repeated = {p: least[p] for p in natural if p < keys}
    blocks = [dict(repeated)]
    for place in list(natural)[len(repeated) :]:
        if _total({**blocks[-1], place: least[place]}) > width and len(blocks[-1]) > len(repeated):
            blocks.append(dict(repeated))
        blocks[-1][place] = least[place]
    if any(_total(block) > width for block in blocks):
        return Layout([], shared)
    return Layout([_shrunk({p: natural[p] for p in block}, block, width) for block in blocks], shared)


def _widest(heading: Sequence[str], cells: Sequence[str]) -> int:
    return max((cell_len(line) for text in (*heading, *cells) for line in text.split("\n")), default=1)


def _least(heading: str, cells: Sequence[str]) -> int:
    """Return the width to which a column may shrink: its longest word, and enough for sentences."""
    words = [word for text in (heading, *cells) for word in text.split()]
    longest = max(map(cell_len, words), default=1)
    return max(longest, min(MIN_TEXT, _widest(heading.split(), cells)))


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + BORDERS * len(widths) + 1


def _shrunk(natural: dict[int, int], least: dict[int, int], width: int) -> dict[int, int]:
    """Return widths that fit, taking from the widest column that can still shrink."""
    widths = dict(natural)
    while _total(widths) > width:
        widest = max((p for p in widths if widths[p] > least[p]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths
