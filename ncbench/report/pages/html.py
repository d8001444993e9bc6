"""All leaderboards as one self-contained HTML page: no network, no other files.

Figures are embedded as images, which cannot run scripts. The template escapes all text, and a content security policy
allows the page's own script and nothing else.
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
from ncbench.report.figures.style import Figure, section_names
from ncbench.report.pages import legend
from ncbench.report.tables import overview, versus_published
from ncbench.report.tables.comparisons import COLUMNS, Comparison
from ncbench.report.tables.leaderboard import Leaderboard

ASSETS = files("ncbench.report") / "assets"


@dataclass(frozen=True)
class Cell:
    """The text of a cell; `mark` is `best` or `second` for the best values of a column."""

    text: str
    mark: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; the columns in `numbers` are right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[str]
    note: str = ""
    runs: Sequence[RunDetails] = ()


@dataclass(frozen=True)
class RunDetails:
    """Details of a run that the page shows on demand: its name and all values of its record, by dotted key."""

    name: str
    rsum: float
    facts: Mapping[str, str]


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure of the page; `source` is a data URI."""

    title: str
    caption: str
    source: str


@dataclass(frozen=True)
class DatasetSection:
    """The section of a dataset; `anchor` is its id in the page."""

    name: str
    anchor: str
    runs: int
    figures: Sequence[EmbeddedFigure]
    overviews: Sequence[Table]
    comparisons: Sequence[Table]
    figure_sections: Mapping[str, Sequence[EmbeddedFigure]] = field(default_factory=dict)
    published: Sequence[Table] = ()
    problems: Sequence[str] = ()


def html_page(boards: Sequence[tuple[Leaderboard, Sequence[Figure]]], folder: Path) -> str:
    """Return the page of leaderboards and their figures, which are read from `folder`/<dataset>/.

    Raises UserError for a damaged record, OSError for a figure that cannot be read.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script, style = (ASSETS.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(ASSETS.joinpath("page.html").read_text(encoding="utf-8"))
    sections = [_section(number, board, figures, folder) for number, (board, figures) in enumerate(boards)]
    return (
        template.render(
            sections=sections,
            style=Markup(style),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            legend=Markup(markdown_to_html(legend.legend_of(board for board, _ in boards))),
            problems_legend=Markup(markdown_to_html(legend.PROBLEMS_LEGEND)),
            published_legend=Markup(markdown_to_html(legend.PUBLISHED_LEGEND)),
        )
        + "\n"
    )


def markdown_to_html(text: str) -> str:
    """Return markdown text as HTML; only *emphasis* and `code` are supported."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<em>\1</em>", escape(text), flags=re.DOTALL))


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a nested mapping as text, by dotted key."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", " ".join(map(str, value))
        else:
            yield f"{prefix}{key}", f"{value:.6g}" if isinstance(value, float) else str(value)


def _section(number: int, board: Leaderboard, figures: Sequence[Figure], folder: Path) -> DatasetSection:
    def embedded(section: str) -> list[EmbeddedFigure]:
        return [
            EmbeddedFigure(figure.title, figure.caption, _data_uri(folder / board.dataset / figure.file))
            for figure in figures
            if figure.section == section
        ]

    return DatasetSection(
        board.dataset,
        f"dataset-{number}",
        len(board.runs),
        embedded(""),
        [_overview(each) for each in board.overviews],
        [_comparison(each) for each in board.comparisons],
        {section: embedded(section) for section in section_names(figures)},
        [
            Table(
                each.title, versus_published.COLUMNS, _plain(each.cells()), frozenset(versus_published.NUMERIC_COLUMNS)
            )
            for each in board.published
        ],
        board.problems,
    )


def _overview(found: overview.Overview) -> Table:
    columns, *body = overview.rows(found)
    note = f"Missing: {'; '.join(found.missing)}." if found.missing else ""
    return Table(found.title, columns, _plain(body), frozenset(columns[1:]), note)


def _comparison(table: Comparison) -> Table:
    columns = list(COLUMNS.values())
    rows = [
        [Cell(text, table.mark(row, column)) for column, text in zip(COLUMNS, cells, strict=True)]
        for row, cells in zip(table.rows.to_dict(orient="records"), table.cells(), strict=True)
    ]
    return Table(table.title, columns, rows, frozenset(columns[1:]), runs=[*_runs(table)])


def _runs(table: Comparison) -> Iterator[RunDetails]:
    runs = table.runs.sort_values(["variant", "seed", "id"])
    for variant, seed, rsum, folder in zip(runs["variant"], runs["seed"], runs["rsum"], runs["folder"], strict=True):
        record = Record(Path(folder))
        origin = record.origin()
        content = {**({"origin": origin} if origin else {}), **record.content(RESULT_FILE)}
        facts = dict(flatten({**content, **record.public_measurements()}))
        yield RunDetails(f"{variant}, seed {seed}", rsum if math.isfinite(rsum) else 0.0, facts)


def _plain(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
    return [[Cell(text) for text in row] for row in rows]


def _data_uri(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
