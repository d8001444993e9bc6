"""Leaderboards as markdown pages."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ncbench.report.tables import COLUMNS, Comparison, scores

LEGEND = """\
Recalls in percent on the test split: *i2t* finds a caption of an image, *t2i* the image of a caption; rSum is the sum
of the six. The best of each column is bold; ± is the standard deviation over seeds. *Budget used* is training work in
epochs of plain triplet training; *time* is seconds of training; evaluation is in neither. *Outside* is the share of
this time that went into what the budget does not count, as optimal transport and mixtures; (!) marks more than 20 %.
Under *own epochs* every method trains for so many epochs of its own, however much work they are: as papers do.
Tables with different noise units (`images`: all captions of an image move together; `captions`: each moves on its
own) are not comparable. A method that was *told the truth* knows which training pairs are clean: it is there for
reference, and never the best. One that was *told clean pairs* knows of so many training pairs that they are clean,
which the others do not.
"""


def page(dataset: str, tables: Sequence[Comparison], figure: str) -> str:
    """Return the page of a dataset: a legend, a figure (file name) and a table per comparison."""
    parts = [f"# {_escape(dataset)}\n", LEGEND, f"![rSum against noise ratio](<{figure}>)\n"]
    for table in tables:
        parts.append(f"## {_escape(table.title)}\n")
        parts.append(_table(table))
    return "\n".join(parts)


def _table(table: Comparison) -> str:
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + " --- |" + " ---: |" * (len(COLUMNS) - 1)]
    rows = table.rows.to_dict(orient="records")
    for row, cells in zip(rows, table.cells(), strict=True):
        marked = [
            f"**{cell}**" if _is_best(table, row, column) else _escape(cell)
            for column, cell in zip(COLUMNS, cells, strict=True)
        ]
        lines.append("| " + " | ".join(marked) + " |")
    return "\n".join(lines) + "\n"


def _is_best(table: Comparison, row: Mapping[Hashable, Any], column: str) -> bool:
    contends = column in scores() and not row["told_truth"]
    return contends and _shown(row[column]) == _shown(table.best(column))


def _shown(score: float) -> str:
    """Return a score as readers see it: what looks equal is equally good."""
    return f"{score:.1f}"


def _escape(text: str) -> str:
    """Return `text` with what markdown or HTML would take for markup made harmless."""
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
