"""Tables as text for other programs: CSV, LaTeX, markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from ncbench.report.pages.latex import latex_table
from ncbench.report.pages.markdown import beside_sections, comparison_sections
from ncbench.report.tables import versus_published
from ncbench.report.tables.comparisons import COLUMNS, Comparison
from ncbench.report.tables.versus_published import Beside

Format = Literal["csv", "latex", "markdown"]


def format_comparisons(tables: Sequence[Comparison], form: Format) -> str:
    """Return all comparisons: one table of their rows with the axes of each, or a LaTeX table or a section each."""
    if form == "csv":
        rows = [{**table.key, **row} for table in tables for row in table.rows.to_dict(orient="records")]
        return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    if form == "latex":
        columns = tuple(COLUMNS.values())
        return "\n".join(latex_table(table.title, columns, table.cells(), columns[1:]) for table in tables)
    return comparison_sections(tables)


def format_beside(tables: Sequence[Beside], form: Format) -> str:
    """Return published numbers beside ours: one table of all lines, or a LaTeX table or a section each."""
    if form == "csv":
        lines = pd.DataFrame([line.facts() for table in tables for line in table.lines])
        whole = lines.astype({"nets": "Int64", "our_seeds": "Int64"})  # numbers that may be absent
        return whole.to_csv(index=False, lineterminator="\n")
    if form == "latex":
        return "\n".join(
            latex_table(t.title, versus_published.COLUMNS, t.cells(), versus_published.NUMBERS) for t in tables
        )
    return beside_sections(tables, level=2)
