"""Leaderboards as one page of HTML that needs nothing else: no network, no other file.

Figures are embedded as images, in which nothing runs; all text is escaped by the template, and a content security
policy allows the one script of the page and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ncbench.records.record import RESULT_FILE, Record
from ncbench.report.figures.style import Figure, sections_of
from ncbench.report.pages import legend
from ncbench.report.tables import overview, versus_published
from ncbench.report.tables.comparisons import COLUMNS, Comparison
from ncbench.report.tables.leaderboard import Leaderboard

ASSETS = files("ncbench.report") / "assets"


@dataclass(frozen=True)
class Cell:
    """Text of a table, and whether it is the `best` or `second` of its column."""

    text: str
    mark: str | None = None


@dataclass(frozen=True)
class Table:
    """A table as the page shows it; `numbers` are the columns that are aligned to the right."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[str]
    note: str = ""
    runs: Sequence[RunDetails] = ()


@dataclass(frozen=True)
class RunDetails:
    """What the page tells of a run on demand: a line that names it, and all that its record says, by dotted name."""

    name: str
    rsum: float
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Shown:
    """A figure as the page shows it: `source` is a data URI."""

    shows: str
    caption: str
    source: str


@dataclass(frozen=True)
class Part:
    """What the page shows of one dataset; `anchor` is its id in the page."""

    name: str
    anchor: str
    runs: int
    figures: Sequence[Shown]
    overviews: Sequence[Table]
    comparisons: Sequence[Table]
    sections: Mapping[str, Sequence[Shown]] = field(default_factory=dict)
    published: Sequence[Table] = ()


def html_page(boards: Sequence[tuple[Leaderboard, Sequence[Figure]]], folder: Path) -> str:
    """Return the page of leaderboards and their figures, which lie in `folder`.

    Raises UserError for a record that is damaged, OSError for a figure that cannot be read.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script, style = (ASSETS.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(ASSETS.joinpath("page.html").read_text(encoding="utf-8"))
    parts = [_part(number, board, figures, folder) for number, (board, figures) in enumerate(boards)]
    return (
        template.render(
            parts=parts,
            style=Markup(style),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            legend=Markup(in_html(legend.LEGEND)),
            beside_legend=Markup(in_html(legend.BESIDE_LEGEND)),
        )
        + "\n"
    )


def in_html(text: str) -> str:
    """Return markdown of which only *emphasis* and `code` are used as HTML."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<em>\1</em>", escape(text), flags=re.DOTALL))


def facts_of(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a record says by dotted name, as text."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from facts_of(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", " ".join(map(str, value))
        else:
            yield f"{prefix}{key}", f"{value:.6g}" if isinstance(value, float) else str(value)


def _part(number: int, board: Leaderboard, figures: Sequence[Figure], folder: Path) -> Part:
    def shown(section: str) -> list[Shown]:
        return [
            Shown(figure.shows, figure.caption, _data_uri(folder / figure.file))
            for figure in figures
            if figure.section == section
        ]

    return Part(
        board.dataset,
        f"dataset-{number}",
        len(board.runs),
        shown(""),
        [_overview(each) for each in board.overviews],
        [_comparison(each) for each in board.comparisons],
        {section: shown(section) for section in sections_of(figures)},
        [
            Table(each.title, versus_published.COLUMNS, _plain(each.cells()), frozenset(versus_published.NUMBERS))
            for each in board.published
        ],
    )


def _overview(found: overview.Overview) -> Table:
    heads, *body = overview.rows(found)
    note = f"Missing: {'; '.join(found.missing)}." if found.missing else ""
    return Table(found.title, heads, _plain(body), frozenset(heads[1:]), note)


def _comparison(table: Comparison) -> Table:
    heads = list(COLUMNS.values())
    rows = [
        [Cell(text, table.mark(row, column)) for column, text in zip(COLUMNS, cells, strict=True)]
        for row, cells in zip(table.rows.to_dict(orient="records"), table.cells(), strict=True)
    ]
    return Table(table.title, heads, rows, frozenset(heads[1:]), runs=[*_runs(table)])


def _runs(table: Comparison) -> Iterator[RunDetails]:
    runs = table.runs.sort_values(["variant", "seed", "id"])
    for variant, seed, rsum, folder in zip(runs["variant"], runs["seed"], runs["rsum"], runs["folder"], strict=True):
        record = Record(Path(folder))
        origin = record.origin()
        content = {**({"origin": origin} if origin else {}), **record.content(RESULT_FILE)}
        facts = dict(facts_of({**content, **record.public_measurements()}))
        yield RunDetails(f"{variant}, seed {seed}", rsum if math.isfinite(rsum) else 0.0, facts)


def _plain(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
    return [[Cell(text) for text in row] for row in rows]


def _data_uri(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
