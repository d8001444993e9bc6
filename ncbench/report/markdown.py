"""Leaderboards as markdown pages."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ncbench.report.overview import Overview
from ncbench.report.overview import rows as overview_rows
from ncbench.report.tables import COLUMNS, DIGITS, Comparison, scores

LEGEND = """\
Recalls in percent on the test split: *i2t* finds a caption of an image, *t2i* the image of a caption; rSum is the sum
of the six. The best of each column is bold, the second underlined; ± is the standard deviation over seeds. *Rank* is
one more than the number of methods that are better and that a paired bootstrap over test queries and seeds tells apart
from this one (95 % interval of the difference of rSum): methods that cannot be told apart share it. *Average* is over
the noisy ratios, *kept* what this is of the rSum on clean pairs; both are left open where a run is missing. *Budget
used* is training work in epochs of plain triplet training; *time* is seconds of training; evaluation is in neither.
*Outside* is the share of this time that went into what the budget does not count, as optimal transport and mixtures;
(!) marks more than 20 %. Under *own epochs* every method trains for so many epochs of its own, however much work they
are: as papers do. Tables with different noise units (`images`: all captions of an image move together; `captions`: each
moves on its own) are not comparable. A method that was *told the truth* knows which training pairs are clean: it is
there for reference, and never the best. One that was *told clean pairs* knows of so many training pairs that they are
clean, which the others do not.
"""


def page(dataset: str, overviews: Sequence[Overview], tables: Sequence[Comparison], figure: str) -> str:
    """Return the page of a dataset: a legend, a figure (file name), overviews, and a table per comparison."""
    parts = [f"# {_escape(dataset)}\n", LEGEND, f"![rSum against noise ratio](<{figure}>)\n"]
    for overview in overviews:
        parts.append(f"## rSum over noise ratios: {_escape(overview.title)}\n")
        parts.append(_overview(overview))
    for table in tables:
        parts.append(f"## {_escape(table.title)}\n")
        parts.append(_table(table))
    return "\n".join(parts)


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
        marked = [_marked(cell, table, row, column) for column, cell in zip(COLUMNS, cells, strict=True)]
        lines.append("| " + " | ".join(marked) + " |")
    return "\n".join(lines) + "\n"


def _head(columns: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + " --- |" + " ---: |" * (len(columns) - 1)]


def _marked(cell: str, table: Comparison, row: Mapping[Hashable, Any], column: str) -> str:
    """Return a cell, bold if it is the best score of its column among contestants, underlined if the second."""
    if column in scores() and not row["told_truth"]:
        if _shown(row[column]) == _shown(table.best(column)):
            return f"**{cell}**"
        if _shown(row[column]) == _shown(table.second(column)):
            return f"<u>{cell}</u>"
    return _escape(cell)


def _shown(score: float) -> str:
    """Return a score as readers see it: what looks equal is equally good."""
    return f"{score:.{DIGITS}f}"


def _escape(text: str) -> str:
    """Return `text` with what markdown or HTML would take for markup made harmless."""
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
