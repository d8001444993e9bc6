"""Leaderboards as markdown pages."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncbench.report import beside
from ncbench.report.beside import Beside
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

BESIDE_LEGEND = """\
Recalls and rSum as printed in the *source*, which is often not the paper that proposed the method. *Nets* are the
networks whose similarities were averaged. The *unit* of the noise is in the heading; it and the nets are *unknown*
where no source settles them: tables that reprint numbers mix both units. *SUM-MISMATCH*: the printed sum is not that of
the recalls; *SUSPECT*: something is likely misprinted. *Our rSum* is the mean over seeds (± their standard deviation)
of the same method, backbone, ratio and unit, *difference* is ours less theirs; `triplet` stands beside plain backbones.
Ours had the budget that is told, which need not be the paper's, and average the networks that the method builds.
"""


@dataclass(frozen=True)
class Figure:
    """A figure on a page: what it shows, its file beside the page, and what is to be said below it."""

    shows: str
    file: str
    caption: str = ""


def page(
    dataset: str,
    figures: Sequence[Figure],
    overviews: Sequence[Overview],
    tables: Sequence[Comparison],
    published: Sequence[Beside] = (),
) -> str:
    """Return the page of a dataset: legend, figures, overviews, comparisons, and published numbers."""
    parts = [f"# {_escape(dataset)}\n", LEGEND]
    for figure in figures:
        parts.append(f"![{_escape(figure.shows)}](<{figure.file}>)\n")
        if figure.caption:
            parts.append(f"{_escape(figure.caption)}\n")
    for overview in overviews:
        parts.append(f"## rSum over noise ratios: {_escape(overview.title)}\n")
        parts.append(_overview(overview))
    parts.append(comparison_sections(tables))
    if published:
        parts += ["## Published beside reproduced\n", BESIDE_LEGEND, beside_sections(published, level=3)]
    return "\n".join(parts)


def comparison_sections(tables: Sequence[Comparison]) -> str:
    """Return a heading and a table per comparison."""
    return "\n".join(f"## {_escape(table.title)}\n\n{_table(table)}" for table in tables)


def beside_sections(tables: Sequence[Beside], level: int) -> str:
    """Return a heading, of this level, and a table per evaluation, noise and unit."""
    return "\n".join(f"{'#' * level} {_escape(table.title)}\n\n{_beside_table(table)}" for table in tables)


def _beside_table(table: Beside) -> str:
    marks = ("---:" if column in beside.NUMBERS else "---" for column in beside.COLUMNS)
    lines = ["| " + " | ".join(beside.COLUMNS) + " |", "| " + " | ".join(marks) + " |"]
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
