"""The leaderboard of a dataset: everything that its pages show, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ncbench.records.problems import FAILS, Problem
from ncbench.records.table import failing, sound, with_recorded_ratios
from ncbench.report.computed import Computed
from ncbench.report.tables.comparisons import Comparison, comparisons
from ncbench.report.tables.overview import Overview, overviews
from ncbench.report.tables.published import EVALUATIONS
from ncbench.report.tables.versus_published import PublishedTable, published_tables


@dataclass(frozen=True)
class Leaderboard:
    """The runs of a dataset (rows of `load_runs`) and the tables computed from them."""

    dataset: str
    runs: pd.DataFrame
    overviews: Sequence[Overview]
    comparisons: Sequence[Comparison]
    published: Sequence[PublishedTable] = ()
    left_out: Sequence[Problem] = ()

    @property
    def problems(self) -> list[str]:
        """The records with problems, and which these are, one line each."""
        marked = self.runs[failing(self.runs)]
        lines = [f"{run}: {text} ({FAILS})" for run, text in zip(marked["id"], marked["problems"], strict=True)]
        return [*lines, *(problem.line for problem in self.left_out)]

    @property
    def sources(self) -> str:
        """How many of the runs came in which submissions, "" if none did."""
        counts = self.runs["submission"].value_counts().drop("", errors="ignore")
        if counts.empty:
            return ""
        named = [f"{count} from submission {name}" for name, count in sorted(counts.items())]
        return f"{len(self.runs)} {'run' if len(self.runs) == 1 else 'runs'}: {', '.join(named)}."


def leaderboards(
    frame: pd.DataFrame, left_out: Sequence[Problem] = (), computed: Computed | None = None
) -> list[Leaderboard]:
    """Return the leaderboards of the datasets in `frame` (of `load_runs`), by name.

    Datasets with published results include them. `left_out` are the records that could not be read, `computed` what
    earlier reports computed.
    """
    return [
        Leaderboard(
            str(dataset),
            runs,
            overviews(runs),
            comparisons(runs, computed),
            published_tables(str(dataset), sound(runs)) if dataset in EVALUATIONS else (),
            [problem for problem in left_out if problem.dataset == dataset],
        )
        for dataset, runs in with_recorded_ratios(frame).groupby("dataset", sort=True)
    ]
