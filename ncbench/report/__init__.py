"""Leaderboards: pages, tables and figures, all drawn from one tidy table of run records."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.errors import UserError
from ncbench.records.table import sound
from ncbench.runtime.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from ncbench.report.computed import Computed
    from ncbench.report.figures.style import Figure
    from ncbench.report.tables.leaderboard import Leaderboard

PAGE_FILE, RUNS_FILE, FIGURES_FOLDER = "README.md", "runs.csv", "figures"


def write_report(
    boards: Sequence[Leaderboard],
    out: Path,
    curves: Callable[[], pd.DataFrame] | None = None,
    *,
    html: bool = False,
    data_root: Path | None = None,
    warn: Callable[[str], object] = print,
    computed: Computed | None = None,
) -> list[Path]:
    """Write the leaderboards into `out` and return the files.

    Each dataset has a folder with a page (README.md), its runs (runs.csv) and its figures (figures/). All numbers of
    the page can be computed from runs.csv. Where results are published, published.md lists them beside ours. The same
    records give the same bytes.

    `curves`, which returns what `load_training_curves` does, adds figures of dev rSum and beliefs against training
    work. Figures of examples need the dataset, which is read from `data_root` if it has files of its own; if it cannot
    be read, `warn` receives the reason. It also receives a line where a page replaces one with runs that this one
    lacks. `html` adds index.html, one page with everything, figures included. `computed` is what earlier reports
    computed from these records.
    Raises UserError for damaged records and where a folder holds a README.md that is not a page of a leaderboard,
    OSError if `out` cannot be written.
    """
    from ncbench.report.computed import Computed
    from ncbench.report.figures.gallery import draw_all
    from ncbench.report.figures.style import figure_files
    from ncbench.report.pages.formats import csv_text
    from ncbench.report.pages.html import html_page
    from ncbench.report.pages.markdown import PUBLISHED_FILE, page, published_page

    computed = computed or Computed()
    for board in boards:
        _check_folder(out / board.dataset)
    written: list[Path] = []
    pages = []
    for board in boards:
        folder = out / board.dataset
        figures: list[Figure] = []
        if len(sound(board.runs)):
            figures = draw_all(_sound(board, computed), curves, folder / FIGURES_FOLDER, data_root, warn, computed)
        text, runs = folder / PAGE_FILE, folder / RUNS_FILE
        if lost := len(_ids_in(runs) - set(board.runs["id"])):
            warn(f"{text} had {lost:,} runs that this report lacks; for a page of other runs, choose another --out")
        write_text(runs, csv_text(board.runs.drop(columns="folder")))
        shown = repr((figures, board.problems, [table.cells() for table in board.published]))
        write_text(text, computed.value(f"page {shown}", board.runs, str, partial(page, board, figures)))
        if board.published:
            write_text(folder / PUBLISHED_FILE, published_page(board))
        more = [folder / PUBLISHED_FILE] if board.published else []
        drawn = [file for figure in figures for file in figure_files((folder / figure.file).with_suffix(""))]
        written += [text, runs, *more, *drawn]
        pages.append((board, figures))
    if html:
        index = out / "index.html"
        write_text(index, html_page(pages, out))
        written.append(index)
    return written


def _sound(board: Leaderboard, computed: Computed) -> Leaderboard:
    """Return what figures may show of a leaderboard: the runs without problems."""
    from ncbench.report.tables.comparisons import comparisons

    runs = sound(board.runs)
    return board if len(runs) == len(board.runs) else replace(board, runs=runs, comparisons=comparisons(runs, computed))


def _ids_in(runs: Path) -> set[str]:
    """Return the ids in a table of runs; none if there is no such table."""
    try:
        with runs.open(encoding="utf-8", newline="") as file:
            return {row["id"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return set()


def _check_folder(folder: Path) -> None:
    """Raise UserError if `folder` has a README.md but no runs.csv: then it is not a page of a leaderboard."""
    if (folder / PAGE_FILE).exists() and not (folder / RUNS_FILE).exists():
        raise UserError(f"{folder / PAGE_FILE} is not a leaderboard page; not overwritten. Choose another --out")
