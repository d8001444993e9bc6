"""`ncbench.report_runs`: leaderboards from Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.records.gathered import records_folder
from ncbench.records.problems import OnProblem, Problem
from ncbench.records.remembered import Remembered, remembering
from ncbench.records.table import load_runs, read_row, sound
from ncbench.report import write_report
from ncbench.report.computed import Computed
from ncbench.report.figures.training_curves import load_training_curves
from ncbench.report.tables.leaderboard import Leaderboard, leaderboards

if TYPE_CHECKING:
    import pandas as pd


def report_runs(
    folder: Path | str = "runs",
    out: Path | str = "leaderboards",
    *,
    beside: Sequence[Path | str] = (),
    html: bool = False,
    data_root: Path | str | None = None,
) -> list[Path]:
    """Write leaderboards of the runs in `folder`, as `ncbench report` does, and return the files.

    Each dataset has a folder in `out` with a page (README.md), its runs (runs.csv) and figures; `html` adds index.html,
    everything on one page. `beside` are submissions, or other folders of records, whose runs rank beside these.
    `data_root` is the folder of released datasets, for figures that show examples. Every record is verified: those with
    problems are marked, or left out if they cannot be read, with a RuntimeWarning each.
    Raises UserError without any run that can be read, and OSError if `out` cannot be written.
    """
    problems: list[Problem] = []
    folders = [Path(folder), *(records_folder(Path(other)) for other in beside)]
    runs, computed = load_verified(folders, problems.append)
    for problem in dict.fromkeys(problems):
        warnings.warn(problem.line, RuntimeWarning, stacklevel=2)
    warn = partial(warnings.warn, category=RuntimeWarning, stacklevel=2)
    root = None if data_root is None else Path(data_root)
    _, written = write_runs(runs, computed, folders, problems, Path(out), html=html, data_root=root, warn=warn)
    return written


def load_verified(folders: Sequence[Path], on_problem: OnProblem) -> tuple[pd.DataFrame, Computed]:
    """Return the table of runs, and what earlier reports computed from them.

    Each run was verified now or since its files last changed. Raises as `load_runs`.
    """
    with ExitStack() as stack:
        found = {folder: stack.enter_context(remembering(folder)) for folder in folders}

        def remembered(record: Path) -> Remembered:
            return next(each for folder, each in found.items() if record.is_relative_to(folder))

        runs = load_runs(
            folders,
            on_problem,
            lambda folder: remembered(folder).verify(folder),
            lambda record: remembered(record.folder).row(record, read_row),
        )
        return runs, Computed({name: remembered(Path(name)).state(Path(name)) for name in runs["folder"]})


def write_runs(
    runs: pd.DataFrame,
    computed: Computed,
    folders: Sequence[Path],
    problems: Sequence[Problem],
    out: Path,
    *,
    html: bool,
    data_root: Path | None,
    warn: Callable[[str], object],
) -> tuple[list[Leaderboard], list[Path]]:
    """Write the leaderboards of `runs`, which are in `folders`; return them and their files. See `write_report`."""
    boards = leaderboards(runs, [problem for problem in problems if problem.left_out], computed)

    @cache
    def curves() -> pd.DataFrame:
        return load_training_curves(folders, only=frozenset(sound(runs)["folder"]))

    written = write_report(boards, out, curves, html=html, data_root=data_root, warn=warn, computed=computed)
    computed.tidy()
    return boards, written
