"""Leaderboards: all of them derive from one tidy table of run records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.runtime.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from ncbench.report.tables.leaderboard import Leaderboard


def write_report(
    boards: Sequence[Leaderboard],
    out: Path,
    courses: pd.DataFrame | None = None,
    *,
    html: bool = False,
    data_root: Path | None = None,
    say: Callable[[str], object] = print,
) -> list[Path]:
    """Write a markdown page, figures and the runs themselves per leaderboard into `out`; return the files.

    The runs are rows of `<dataset>.csv`, from which all numbers of the page can be had again. With `courses` (of
    `load_courses`) there is a figure of dev rSum against work too; examples need the dataset, which is read below
    `data_root` if it needs files, and `say` is told why there are none. `html` adds `index.html`, which holds all pages
    with their figures. The same records give the same bytes.
    Raises UserError for records that are damaged, OSError where `out` cannot be written.
    """
    from ncbench.report.figures.gallery import draw_all
    from ncbench.report.figures.style import files_of
    from ncbench.report.pages.html import html_page
    from ncbench.report.pages.markdown import page

    written: list[Path] = []
    pages = []
    for board in boards:
        figures = draw_all(board, courses, out, data_root, say)
        text, runs = out / f"{board.dataset}.md", out / f"{board.dataset}.csv"
        write_text(text, page(board, figures))
        write_text(runs, board.runs.drop(columns="folder").to_csv(index=False))
        drawn = [file for figure in figures for file in files_of((out / figure.file).with_suffix(""))]
        written += [text, *drawn, runs]
        pages.append((board, figures))
    if html:
        whole = out / "index.html"
        write_text(whole, html_page(pages, out))
        written.append(whole)
    return written
