"""The leaderboard of a dataset: all that its pages show, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ncbench.report.beside import Beside, published_beside
from ncbench.report.overview import Overview, overviews
from ncbench.report.published import EVALUATIONS
from ncbench.report.tables import Comparison, comparisons


@dataclass(frozen=True)
class Leaderboard:
    """The runs of a dataset, rows as of `load_runs`, and the tables that derive from them."""

    dataset: str
    runs: pd.DataFrame
    overviews: Sequence[Overview]
    comparisons: Sequence[Comparison]
    published: Sequence[Beside] = ()


def leaderboards(frame: pd.DataFrame) -> list[Leaderboard]:
    """Return the leaderboards of the datasets in `frame` of `load_runs`, by name.

    Datasets with published numbers have them beside ours.
    """
    return [
        Leaderboard(
            str(dataset),
            runs,
            overviews(runs),
            comparisons(runs),
            published_beside(str(dataset), runs) if dataset in EVALUATIONS else (),
        )
        for dataset, runs in frame.groupby("dataset", sort=True)
    ]
