"""Tables as CSV, LaTeX or markdown text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from ncbench.report.pages.latex import latex_table
from ncbench.report.pages.markdown import comparison_sections, published_sections
from ncbench.report.pages.paper_table import paper_tables
from ncbench.report.tables import versus_published
from ncbench.report.tables.answers import summary
from ncbench.report.tables.comparisons import Comparison
from ncbench.report.tables.leaderboard import Leaderboard
from ncbench.report.tables.versus_published import PublishedTable
from ncbench.runtime.printable import spreadsheet_cell

Format = Literal["csv", "latex", "markdown"]


def format_comparisons(
    tables: Sequence[Comparison],
    form: Format,
    columns: Sequence[str] = (),
    methods: Sequence[str] = (),
    source: str = "ncbench report --format latex",
) -> str:
    """Return all comparisons: as one CSV table, as LaTeX tables over noise ratios, or as a markdown section each.

    `columns`, `methods` and `source` are those of `paper_tables`.
    """
    if form == "csv":
        rows = [{**table.key, **row} for table in tables for row in table.rows.to_dict(orient="records")]
        return csv_text(pd.DataFrame(rows))
    if form == "latex":
        return paper_tables(tables, source, columns, methods)
    return comparison_sections(tables)


def format_published(tables: Sequence[PublishedTable], form: Format) -> str:
    """Return published results next to ours: as one CSV table, or as a LaTeX table or markdown section each."""
    if form == "csv":
        lines = pd.DataFrame([line.facts() for table in tables for line in table.lines])
        whole = lines.astype({"nets": "Int64", "our_seeds": "Int64"})  # integers that may be missing
        return csv_text(whole)
    if form == "latex":
        return "\n".join(
            latex_table(t.title, versus_published.COLUMNS, t.cells(), versus_published.NUMERIC_COLUMNS, t.footnotes())
            for t in tables
        )
    return published_sections(tables, level=2)


def summary_lines(boards: Sequence[Leaderboard]) -> str:
    """Return the answer of every board in a line that begins with its dataset."""
    return "".join(f"{board.dataset}: {summary(board.comparisons, board.overviews)}\n" for board in boards)


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV without the index; see `ncbench.runtime.printable.spreadsheet_cell` for its cells."""
    numbers = frame.select_dtypes(["number", "bool"]).columns
    safe = frame.assign(**{name: frame[name].map(spreadsheet_cell) for name in frame.columns.difference(numbers)})
    return safe.to_csv(index=False, lineterminator="\n")
