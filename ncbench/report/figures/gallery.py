"""Draws all figures of a leaderboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from ncbench.data.dataset import Dataset
from ncbench.data.registry import dataset_source
from ncbench.errors import UserError
from ncbench.noise.ratio import NATURAL
from ncbench.records.audit import load_audit
from ncbench.records.record import Record
from ncbench.report.figures import examples
from ncbench.report.figures.beliefs import collect_beliefs, draw_beliefs_by_variant
from ncbench.report.figures.noise_curves import draw_noise_curves
from ncbench.report.figures.ranks import draw_ranking, rank_methods
from ncbench.report.figures.style import Figure
from ncbench.report.figures.training_curves import draw_training_curves, has_training_curves
from ncbench.report.figures.transport_plans import CAPTION, collect_plans, draw_plans
from ncbench.report.tables.comparisons import Comparison
from ncbench.report.tables.leaderboard import Leaderboard

BELIEFS_SECTION, EXAMPLES_SECTION = "Which training pairs methods believe to be clean", "Examples"
BELIEFS_CAPTION = (
    "P(clean) that the method assigned to each training pair at the end of training, all seeds pooled. Above: its "
    "histogram for clean and for mismatched pairs. Below: the share of pairs that are clean against P(clean); a "
    "calibrated method is on the dashed line."
)

Warn = Callable[[str], object]


def draw_all(
    board: Leaderboard, curves: pd.DataFrame | None, folder: Path, data_root: Path | None = None, warn: Warn = print
) -> list[Figure]:
    """Draw every figure that the records of `board` allow into `folder`, as SVG and PNG.

    `curves` are of `load_training_curves`. Examples need the dataset with its pictures, read from `data_root` if it has
    files of its own; if it cannot be read, `warn` receives the reason. Links are relative to the parent of `folder`.
    Raises UserError for damaged records, OSError.
    """
    return [
        *_score_figures(board, curves, folder),
        *_belief_figures(board, folder),
        *_example_figures(board, folder, data_root, warn),
    ]


def _figure(title: str, drawn: Sequence[Path], caption: str = "", section: str = "") -> Figure:
    """Return the figure with these files, linked from the page next to their folder."""
    return Figure(title, f"{drawn[0].parent.name}/{drawn[0].name}", caption, section)


def _score_figures(board: Leaderboard, curves: pd.DataFrame | None, folder: Path) -> Iterator[Figure]:
    runs = board.runs
    synthetic = runs[runs["protocol"] != NATURAL]
    if len(synthetic):
        yield _figure("rSum against noise ratio", draw_noise_curves(synthetic, folder / "rsum"))
    if curves is not None and has_training_curves(runs, curves):
        drawn = draw_training_curves(runs, curves, folder / "training-curves")
        yield _figure("Dev rSum against training work", drawn)
    ranking = rank_methods(runs)
    if ranking is not None:
        yield _figure("Average ranks", draw_ranking(ranking, folder / "ranks"), ranking.caption)


def _belief_figures(board: Leaderboard, folder: Path) -> Iterator[Figure]:
    noisy = [table for table in board.comparisons if table.key["noise"]]
    stems = file_names(noisy)
    for table in noisy:
        beliefs = collect_beliefs(table)
        if beliefs:
            drawn = draw_beliefs_by_variant(beliefs, table.noise, folder / f"beliefs-{stems[table.title]}")
            yield _figure(f"P(clean), {table.title}", drawn, BELIEFS_CAPTION, BELIEFS_SECTION)
    plans = collect_plans(noisy)
    if plans:
        yield _figure("Transport plans", draw_plans(plans, folder / "transport-plans"), CAPTION, BELIEFS_SECTION)


def _example_figures(board: Leaderboard, folder: Path, data_root: Path | None, warn: Warn) -> Iterator[Figure]:
    tables = examples.middle_tables(board.comparisons)
    stems = file_names(tables)
    for table in tables:
        for draw in (_retrieved, _rematched):
            try:
                figure = draw(table, folder, stems[table.title], data_root)
            except UserError as error:
                warn(f"no examples for {table.title}: {error}")
                continue
            if figure is not None:
                yield figure


def _retrieved(table: Comparison, folder: Path, stem: str, data_root: Path | None) -> Figure | None:
    run = examples.best_retrieving(table)
    dataset = _dataset_with_pictures(run, table, data_root)
    found = None if run is None else Record(run.folder).top_k
    if run is None or dataset is None or found is None:
        return None
    drawn = examples.draw_retrieved(found, dataset, run.title, folder / f"retrieved-{stem}")
    return _figure(f"Retrieved by {run.title}", drawn, examples.RETRIEVED_CAPTION, EXAMPLES_SECTION)


def _rematched(table: Comparison, folder: Path, stem: str, data_root: Path | None) -> Figure | None:
    run = examples.best_rematching(table)
    dataset = _dataset_with_pictures(run, table, data_root)
    if run is None or dataset is None:
        return None
    audit = load_audit(run.folder, data_root)
    drawn = examples.draw_rematched(audit, run.title, folder / f"rematched-{stem}")
    return _figure(f"Rematched by {run.title}", drawn, examples.REMATCHED_CAPTION, EXAMPLES_SECTION)


def _dataset_with_pictures(
    run: examples.ExampleRun | None, table: Comparison, data_root: Path | None
) -> Dataset | None:
    """Return the dataset of a run; None without a run, without the data root it needs, or without pictures.

    Raises UserError if the data found are not those of the run.
    """
    if run is None or (dataset_source(table.key["dataset"]).needs_root and data_root is None):
        return None
    dataset = Record(run.folder).dataset(data_root)
    return None if dataset.pictures is None else dataset


def file_names(tables: Sequence[Comparison]) -> dict[str, str]:
    """Return a file name per table, by its title: the title without the dataset, as far as file names allow.

    Equal names get a number.
    """
    names: dict[str, str] = {}
    for table in tables:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", table.title.partition(": ")[2]).strip("-.")
        taken = sum(other == name or other.startswith(f"{name}--") for other in names.values())
        names[table.title] = f"{name}--{taken + 1}" if taken else name
    return names
