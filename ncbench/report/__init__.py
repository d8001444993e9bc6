"""Leaderboards: all of them derive from one tidy table of run records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_report(frame: pd.DataFrame, out: Path, courses: pd.DataFrame | None = None) -> list[Path]:
    """Write a markdown page, figures and the runs themselves per dataset of `frame` (of `load_runs`) into `out`.

    The runs are rows of `<dataset>.csv`, from which all numbers of the page can be had again. With `courses` (of
    `load_courses`) there is a figure of dev rSum against work too. The page of a dataset with published numbers has
    them beside ours. Returns the files. The same records give the same bytes. Raises OSError where `out` cannot be
    written.
    """
    from ncbench.report.beside import published_beside
    from ncbench.report.course import draw_courses, has_courses
    from ncbench.report.figures import draw_ratios
    from ncbench.report.markdown import Figure, page
    from ncbench.report.overview import overviews
    from ncbench.report.published import EVALUATIONS
    from ncbench.report.ranking import draw_ranking, rank_methods
    from ncbench.report.tables import comparisons

    written = []
    for dataset, rows in frame.groupby("dataset", sort=True):
        name = str(dataset)
        figures = draw_ratios(rows, out / f"{name}-rsum")
        shown = [Figure("rSum against noise ratio", figures[0].name)]
        if courses is not None and has_courses(rows, courses):
            drawn = draw_courses(rows, courses, out / f"{name}-course")
            shown.append(Figure("rSum on dev against work spent", drawn[0].name))
            figures += drawn
        ranking = rank_methods(rows)
        if ranking is not None:
            drawn = draw_ranking(ranking, out / f"{name}-ranks")
            shown.append(Figure("average ranks", drawn[0].name, ranking.caption))
            figures += drawn
        path = out / f"{name}.md"
        published = published_beside(name, rows) if name in EVALUATIONS else []
        write_text(path, page(name, shown, overviews(rows), comparisons(rows), published))
        runs = out / f"{name}.csv"
        write_text(runs, rows.drop(columns="folder").to_csv(index=False))
        written += [path, *figures, runs]
    return written
