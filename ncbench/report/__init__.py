"""Leaderboards: all of them derive from one tidy table of run records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_report(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write a markdown page, a figure and the runs themselves per dataset of `frame` (of `load_runs`) into `out`.

    The runs are rows of `<dataset>.csv`, from which all numbers of the page can be had again. Returns the files.
    The page of a dataset with published numbers has them beside ours. The same records give the same bytes. Raises
    OSError where `out` cannot be written.
    """
    from ncbench.report.beside import published_beside
    from ncbench.report.figures import draw_ratios
    from ncbench.report.markdown import page
    from ncbench.report.overview import overviews
    from ncbench.report.published import EVALUATIONS
    from ncbench.report.tables import comparisons

    written = []
    for dataset, rows in frame.groupby("dataset", sort=True):
        name = str(dataset)
        figures = draw_ratios(rows, out / f"{name}-rsum")
        path = out / f"{name}.md"
        published = published_beside(name, rows) if name in EVALUATIONS else []
        write_text(path, page(name, overviews(rows), comparisons(rows), figures[0].name, published))
        runs = out / f"{name}.csv"
        write_text(runs, rows.drop(columns="folder").to_csv(index=False))
        written += [path, *figures, runs]
    return written
