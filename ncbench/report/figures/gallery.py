"""All figures of a leaderboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from ncbench.data.dataset import Dataset
from ncbench.data.registry import dataset_source
from ncbench.errors import UserError
from ncbench.noise.ratio import NATURAL
from ncbench.records import arrays
from ncbench.records.arrays import load_retrieved
from ncbench.records.audit import load_audit
from ncbench.records.record import load_data, read_spec
from ncbench.report.figures import examples
from ncbench.report.figures.beliefs import believed, draw_believed
from ncbench.report.figures.noise_curves import draw_ratios
from ncbench.report.figures.ranks import draw_ranking, rank_methods
from ncbench.report.figures.style import Figure
from ncbench.report.figures.training_curves import draw_courses, has_courses
from ncbench.report.figures.transport_plans import CAPTION, draw_plans, plans_of
from ncbench.report.tables.comparisons import Comparison
from ncbench.report.tables.leaderboard import Leaderboard

BELIEFS, EXAMPLES = "What methods believe of training pairs", "Examples"
BELIEVED_CAPTION = (
    "P(clean) as the method says it of every training pair at the end of training, all seeds together: above, how "
    "often it is what, below, what share of the pairs is clean where it is so (on the dashed line it would be right)."
)

Say = Callable[[str], object]


def draw_all(
    board: Leaderboard, courses: pd.DataFrame | None, out: Path, data_root: Path | None = None, say: Say = print
) -> list[Figure]:
    """Draw every figure that the records of `board` allow, as `<dataset>-*.svg` and `.png` in `out`.

    `courses` are of `load_courses`. Examples need the dataset, with pictures, which lies below `data_root` if it needs
    files; why there are none is told by `say`. Raises UserError for damaged records, OSError.
    """
    return [
        *_scores(board, courses, out),
        *_beliefs(board, out),
        *_examples(board, out, data_root, say),
    ]


def _scores(board: Leaderboard, courses: pd.DataFrame | None, out: Path) -> Iterator[Figure]:
    runs, name = board.runs, board.dataset
    known = runs[runs["protocol"] != NATURAL]
    if len(known):
        yield Figure("rSum against noise ratio", draw_ratios(known, out / f"{name}-rsum")[0].name)
    if courses is not None and has_courses(runs, courses):
        yield Figure("rSum on dev against work spent", draw_courses(runs, courses, out / f"{name}-course")[0].name)
    ranking = rank_methods(runs)
    if ranking is not None:
        yield Figure("average ranks", draw_ranking(ranking, out / f"{name}-ranks")[0].name, ranking.caption)


def _beliefs(board: Leaderboard, out: Path) -> Iterator[Figure]:
    noisy = [table for table in board.comparisons if table.key["noise"]]
    stems = file_names(noisy)
    for table in noisy:
        parts = believed(table)
        if parts:
            drawn = draw_believed(parts, table.noise, out / f"{board.dataset}-beliefs-{stems[table.title]}")
            yield Figure(f"P(clean), {table.title}", drawn[0].name, BELIEVED_CAPTION, BELIEFS)
    plans = plans_of(noisy)
    if plans:
        yield Figure("transport plans", draw_plans(plans, out / f"{board.dataset}-plans")[0].name, CAPTION, BELIEFS)


def _examples(board: Leaderboard, out: Path, data_root: Path | None, say: Say) -> Iterator[Figure]:
    tables = examples.middle_tables(board.comparisons)
    stems = file_names(tables)
    for table in tables:
        for draw in (_retrieved, _rematched):
            try:
                figure = draw(table, out, stems[table.title], data_root)
            except UserError as error:
                say(f"no examples for {table.title}: {error}")
                continue
            if figure is not None:
                yield figure


def _retrieved(table: Comparison, out: Path, stem: str, data_root: Path | None) -> Figure | None:
    run = examples.best_retrieving(table)
    dataset = _pictured(run, table, data_root)
    if run is None or dataset is None:
        return None
    found = load_retrieved(run.folder / arrays.TOP_K_FILE)
    drawn = examples.draw_retrieved(found, dataset, run.title, out / f"{dataset.name}-retrieved-{stem}")
    return Figure(f"retrieved by {run.title}", drawn[0].name, examples.RETRIEVED_CAPTION, EXAMPLES)


def _rematched(table: Comparison, out: Path, stem: str, data_root: Path | None) -> Figure | None:
    run = examples.best_rematching(table)
    dataset = _pictured(run, table, data_root)
    if run is None or dataset is None:
        return None
    drawn = examples.draw_rematched(
        load_audit(run.folder, data_root), run.title, out / f"{dataset.name}-rematched-{stem}"
    )
    return Figure(f"rematched by {run.title}", drawn[0].name, examples.REMATCHED_CAPTION, EXAMPLES)


def _pictured(run: examples.Chosen | None, table: Comparison, data_root: Path | None) -> Dataset | None:
    """Return the dataset of a run, or None where there is no run, nobody says where its files lie, or no pictures.

    Raises UserError where the data at hand are not those of the run.
    """
    if run is None or (dataset_source(table.key["dataset"], run_found=False).needs_root and data_root is None):
        return None
    dataset = load_data(run.folder, read_spec(run.folder), data_root)
    return None if dataset.pictures is None else dataset


def file_names(tables: Sequence[Comparison]) -> dict[str, str]:
    """Return what files about a table are called, by its title: all of it but the dataset, as far as names may hold it.

    Titles that would give one name get a number.
    """
    names: dict[str, str] = {}
    for table in tables:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", table.title.partition(": ")[2]).strip("-.")
        taken = sum(other == name or other.startswith(f"{name}--") for other in names.values())
        names[table.title] = f"{name}--{taken + 1}" if taken else name
    return names
