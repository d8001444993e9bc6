"""Leaderboards as markdown pages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ncbench.report.figures.style import Figure, section_names
from ncbench.report.pages.legend import PROBLEMS_LEGEND, PUBLISHED_LEGEND, legend_of
from ncbench.report.tables import versus_published
from ncbench.report.tables.comparisons import COLUMNS, Comparison
from ncbench.report.tables.leaderboard import Leaderboard
from ncbench.report.tables.overview import Overview
from ncbench.report.tables.overview import rows as overview_rows
from ncbench.report.tables.versus_published import PublishedTable
from ncbench.runtime.printable import printable

MARKS = {"best": "**{}**", "second": "<u>{}</u>", None: "{}"}


def page(board: Leaderboard, figures: Sequence[Figure] = ()) -> str:
    """Return the page of a dataset: legend, figures, overviews, comparisons and published results."""
    parts = [f"# {_escape(board.dataset)}\n", legend_of([board])]
    if board.problems:
        lines = "".join(f"* {_escape(' '.join(problem.split()))}\n" for problem in board.problems)
        parts.append(f"## Records with problems\n\n{PROBLEMS_LEGEND}\n{lines}")
    parts += [_figure(figure) for figure in figures if not figure.section]
    for overview in board.overviews:
        parts.append(f"## rSum over noise ratios: {_escape(overview.title)}\n")
        parts.append(_overview(overview))
    parts.append(comparison_sections(board.comparisons))
    for section in section_names(figures):
        parts.append(f"## {_escape(section)}\n")
        parts += [_figure(figure) for figure in figures if figure.section == section]
    if board.published:
        parts += [
            "## Published and reproduced results\n",
            PUBLISHED_LEGEND,
            published_sections(board.published, level=3),
        ]
    return "\n".join(parts)


def comparison_sections(tables: Sequence[Comparison]) -> str:
    """Return a section per comparison: heading and table."""
    return "\n".join(f"## {_escape(table.title)}\n\n{_table(table)}" for table in tables)


def published_sections(tables: Sequence[PublishedTable], level: int) -> str:
    """Return a section per table, with headings of this level."""
    return "\n".join(f"{'#' * level} {_escape(table.title)}\n\n{_published_table(table)}" for table in tables)


def _figure(figure: Figure) -> str:
    shown = f"![{_escape(figure.title)}](<{figure.file}>)\n"
    return f"{shown}\n{_escape(figure.caption)}\n" if figure.caption else shown


def _published_table(table: PublishedTable) -> str:
    marks = ("---:" if column in versus_published.NUMERIC_COLUMNS else "---" for column in versus_published.COLUMNS)
    lines = ["| " + " | ".join(versus_published.COLUMNS) + " |", "| " + " | ".join(marks) + " |"]
    lines += ["| " + " | ".join(map(_escape, cells)) + " |" for cells in table.cells()]
    return "\n".join(lines) + "\n"


def _overview(overview: Overview) -> str:
    heads, *body = [[_escape(cell) for cell in row] for row in overview_rows(overview)]
    lines = [*_head(heads), *(f"| {' | '.join(row)} |" for row in body)]
    if overview.missing:
        lines += ["", f"Missing: {_escape('; '.join(overview.missing))}."]
    return "\n".join(lines) + "\n"


def _table(table: Comparison) -> str:
    lines = _head(list(COLUMNS.values()))
    rows = table.rows.to_dict(orient="records")
    for row, cells in zip(rows, table.cells(), strict=True):
        marks = [MARKS[table.mark(row, column)] for column in COLUMNS]
        shown = [mark.format(_escape(cell)) for mark, cell in zip(marks, cells, strict=True)]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _head(columns: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + " --- |" + " ---: |" * (len(columns) - 1)]


def _escape(text: str) -> str:
    """Return `text` with the special characters of markdown and HTML escaped."""
    return re.sub(r"([\\|*`\[\]])", r"\\\1", printable(text).replace("&", "&amp;").replace("<", "&lt;"))
