"""Leaderboards as markdown pages: the answer first, then figures, then details, explanations last."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ncbench.report.figures.style import Figure, section_names
from ncbench.report.pages.legend import ANSWERS_NOTE, PROBLEMS_LEGEND, PUBLISHED_LEGEND, legend_of
from ncbench.report.pages.text import unbroken
from ncbench.report.tables import answers, fitting, versus_published
from ncbench.report.tables.comparisons import COLUMNS, COSTS, RESULTS, Comparison
from ncbench.report.tables.leaderboard import Leaderboard
from ncbench.report.tables.overview import Overview
from ncbench.report.tables.overview import rows as overview_rows
from ncbench.report.tables.published_summary import published_summaries
from ncbench.report.tables.versus_published import PublishedTable
from ncbench.runtime.printable import printable

PUBLISHED_FILE = "published.md"
MARKS = {"best": "**{}**", "second": "<u>{}</u>", None: "{}"}


def page(board: Leaderboard, figures: Sequence[Figure] = ()) -> str:
    """Return the page of a dataset: answers, figures, overviews, comparisons, published results and the legend."""
    parts = [f"# {_escape(board.dataset)}\n", f"**{_escape(answers.summary(board.comparisons, board.overviews))}**\n"]
    found = answers.answers(board.comparisons)
    if found:
        parts += [_plain_table(answers.COLUMNS, [one.cells() for one in found], answers.NUMBERS), ANSWERS_NOTE]
    if board.sources:
        parts.append(f"{_escape(board.sources)}\n")
    if board.problems:
        lines = "".join(f"* {_escape(' '.join(problem.split()))}\n" for problem in board.problems)
        parts.append(f"## Records with problems\n\n{PROBLEMS_LEGEND}\n{lines}")
    parts += [_figure(figure) for figure in figures if not figure.section]
    for overview in board.overviews:
        parts.append(f"## rSum over noise ratios: {_escape(overview.title)}\n")
        parts.append(_overview(overview))
    parts += [_comparison(table) for table in board.comparisons]
    for section in section_names(figures):
        parts.append(f"## {_escape(section)}\n")
        parts += [_figure(figure) for figure in figures if figure.section == section]
    if board.published:
        parts += ["## Published and reproduced results\n", _summaries(board.published), PUBLISHED_LEGEND]
        parts.append(f"Every result with its sources and caveats: [{PUBLISHED_FILE}]({PUBLISHED_FILE}).\n")
    parts += ["## How to read the tables\n", legend_of([board])]
    return "\n".join(parts)


def comparison_sections(tables: Sequence[Comparison]) -> str:
    """Return a section per comparison: heading and one table with all columns."""
    return "\n".join(f"## {_escape(table.title)}\n\n{_table(table, tuple(COLUMNS))}" for table in tables)


def published_sections(tables: Sequence[PublishedTable], level: int) -> str:
    """Return a section per table, with headings of this level."""
    return "\n".join(f"{'#' * level} {_escape(table.title)}\n\n{_published_table(table)}" for table in tables)


def _figure(figure: Figure) -> str:
    shown = f"![{_escape(figure.title)}](<{figure.file}>)\n"
    return f"{shown}\n{_escape(figure.caption)}\n" if figure.caption else shown


def _comparison(table: Comparison) -> str:
    """Return the results of a comparison, and below, those for all that fits and its costs."""
    costs = _folded("Budget, time and memory", _table(table, COSTS))
    return f"## {_escape(table.title)}\n\n{_table(table, RESULTS)}\n{_fitting(table)}{costs}"


def _fitting(table: Comparison) -> str:
    """Return the results for all that fits, "" where they are unknown."""
    found = fitting.fitting_table(table)
    if found is None:
        return ""
    columns = tuple(fitting.COLUMNS.values())
    folded = _folded("All that fits", _plain_table(columns, found.rows, columns[1:]))
    return f"{_escape(found.sentence)}\n\n{folded}\n" if found.sentence else f"{folded}\n"


def published_page(board: Leaderboard) -> str:
    """Return the page of all published results on a dataset, one section per evaluation, noise ratio and unit."""
    heading = f"# Published results on {_escape(board.dataset)}, and ours\n"
    return "\n".join([heading, published_sections(board.published, level=2), PUBLISHED_LEGEND])


def _summaries(tables: Sequence[PublishedTable]) -> str:
    """Return an overview per evaluation and noise unit."""
    parts = []
    for summary in published_summaries(tables):
        parts.append(f"### {_escape(summary.title)}: rSum\n")
        parts.append(_plain_table(summary.columns, summary.rows, summary.columns[2:]))
    return "\n".join(parts)


def _published_table(table: PublishedTable) -> str:
    shown = _plain_table(versus_published.COLUMNS, table.cells(), versus_published.NUMERIC_COLUMNS)
    return shown + "\n" + "".join(f"* {_escape(note)}\n" for note in table.footnotes())


def _overview(overview: Overview) -> str:
    heads, *body = overview_rows(overview)
    shown = _plain_table(heads, body, heads[1:])
    return f"{shown}\nMissing: {_escape('; '.join(overview.missing))}.\n" if overview.missing else shown


def _table(table: Comparison, columns: Sequence[str]) -> str:
    names = [COLUMNS[column] for column in columns]
    body = []
    for row, cells in zip(table.rows.to_dict(orient="records"), table.cells(columns), strict=True):
        marks = [MARKS[table.mark(row, column)] for column in columns]
        body.append([mark.format(_escape(cell)) for mark, cell in zip(marks, cells, strict=True)])
    return _lines(names, body, names[1:])


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> str:
    return _lines(columns, [[_escape(cell) for cell in row] for row in rows], numbers)


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> str:
    """Return a table of cells that are markdown; the columns in `numbers` are right-aligned."""
    marks = ["---:" if column in numbers else "---" for column in columns]
    heads = [_escape(column) for column in columns]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, marks, *rows))


def _folded(title: str, content: str) -> str:
    """Return content that GitHub shows on a click."""
    return f"<details><summary>{_escape(title)}</summary>\n\n{content}\n</details>\n"


def _escape(text: str) -> str:
    """Return `text` with the special characters of markdown and HTML escaped, and quantities unbroken."""
    return re.sub(r"([\\|*`\[\]])", r"\\\1", unbroken(printable(text)).replace("&", "&amp;").replace("<", "&lt;"))
