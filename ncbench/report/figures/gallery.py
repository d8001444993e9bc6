"""Draws all figures of a leaderboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from ncbench.data.dataset import Dataset
from ncbench.data.registry import recorded_needs_root
from ncbench.data.same_names import told_apart
from ncbench.errors import UserError
from ncbench.noise.ratio import NATURAL
from ncbench.records.audit import load_audit
from ncbench.records.record import Record
from ncbench.report.computed import Computed
from ncbench.report.figures import beliefs, examples, noise_curves, training_curves, transport_plans
from ncbench.report.figures.ranks import draw_ranking, rank_methods
from ncbench.report.figures.style import Figure
from ncbench.report.tables.comparisons import Comparison
from ncbench.report.tables.leaderboard import Leaderboard

BELIEFS_SECTION, EXAMPLES_SECTION = "Which training pairs methods believe to be clean", "Examples"

Warn = Callable[[str], object]
Curves = Callable[[], pd.DataFrame]


def draw_all(
    board: Leaderboard,
    curves: Curves | None,
    folder: Path,
    data_root: Path | None = None,
    warn: Warn = print,
    computed: Computed | None = None,
) -> list[Figure]:
    """Draw every figure that the records of `board` allow into `folder`, as SVG and PNG.

    `curves` returns what `load_training_curves` does. Examples need the dataset with its pictures, read from
    `data_root` if it has files of its own; if it cannot be read, `warn` receives the reason. `computed` are figures
    that were drawn before. Links are relative to the parent of `folder`. Raises UserError for damaged records, OSError.
    """
    computed = computed or Computed()
    part = "scores" if curves is None else "scores and curves"
    return [
        *computed.figures(part, board.runs, folder, lambda: [*_score_figures(board, curves, folder)]),
        *_belief_figures(board, folder, computed),
        *_example_figures(board, folder, data_root, warn, computed),
    ]


def _figure(title: str, drawn: Sequence[Path], caption: str = "", section: str = "") -> Figure:
    """Return the figure with these files, linked from the page next to their folder."""
    return Figure(title, f"{drawn[0].parent.name}/{drawn[0].name}", caption, section)


def _score_figures(board: Leaderboard, load_curves: Curves | None, folder: Path) -> Iterator[Figure]:
    runs = board.runs
    synthetic = runs[runs["protocol"] != NATURAL]
    if len(synthetic):
        drawn = noise_curves.draw_noise_curves(synthetic, folder / "rsum")
        yield _figure("rSum against noise ratio", drawn, noise_curves.curves_caption(synthetic))
        drawn = noise_curves.draw_curves_by_method(synthetic, folder / "rsum-by-method")
        if drawn:
            yield _figure("rSum against noise ratio by method", drawn, noise_curves.CAPTION_BY_METHOD)
    labels = told_apart(zip(runs["dataset"], runs["dataset_digest"], strict=True))
    for (name, digest), label in sorted(labels.items()):
        content = label.removeprefix(f"{name}@") if label != name else ""
        ranking = rank_methods(runs[runs["dataset_digest"] == digest])
        if ranking is not None:
            drawn = draw_ranking(ranking, folder / (f"ranks-{content}" if content else "ranks"))
            yield _figure(f"Average ranks{content and f', content {content}'}", drawn, ranking.caption)
    curves = None if load_curves is None else load_curves()
    if curves is not None and training_curves.has_training_curves(runs, curves):
        drawn = training_curves.draw_training_curves(runs, curves, folder / "training-curves")
        yield _figure("Dev rSum against training work", drawn, training_curves.CAPTION)
        for value in ("auc", "calibration_error", "rematched"):
            if training_curves.has_training_curves(runs, curves, value):
                stem = folder / f"{value.replace('_', '-')}-curves"
                drawn = training_curves.draw_training_curves(runs, curves, stem, value)
                label = training_curves.LABELS[value]
                title = f"{label[0].upper()}{label[1:]} against training work"
                yield _figure(title, drawn, training_curves.CAPTION)


def _belief_figures(board: Leaderboard, folder: Path, computed: Computed) -> Iterator[Figure]:
    noisy = [table for table in board.comparisons if table.key["noise"]]
    stems = file_names(noisy)
    for table in noisy:
        stem = f"beliefs-{stems[table.title]}"
        yield from computed.figures(stem, table.runs, folder, partial(_beliefs, table, folder / stem))
    runs = board.runs[board.runs["noise"] > 0]
    yield from computed.figures("plans", runs, folder, partial(_plans, runs, folder / "transport-plans"))


def _beliefs(table: Comparison, stem: Path) -> list[Figure]:
    found = beliefs.collect_beliefs(table)
    if not found:
        return []
    drawn = beliefs.draw_beliefs_by_variant(found, table.noise, stem)
    silent = [str(name) for name in table.rows["variant"] if str(name) not in found]
    note = f" No P(clean) is recorded for {', '.join(silent)}." if silent else ""
    return [_figure(f"P(clean), {table.title}", drawn, beliefs.CAPTION + note, BELIEFS_SECTION)]


def _plans(runs: pd.DataFrame, stem: Path) -> list[Figure]:
    shares = transport_plans.load_plan_shares(runs)
    if not len(shares):
        return []
    drawn = transport_plans.draw_plans(runs, shares, stem)
    return [_figure("Where transport plans put their mass", drawn, transport_plans.CAPTION, BELIEFS_SECTION)]


def _example_figures(
    board: Leaderboard, folder: Path, data_root: Path | None, warn: Warn, computed: Computed
) -> Iterator[Figure]:
    tables = examples.middle_tables(board.comparisons)
    stems = file_names(tables)
    for table in tables:
        for kind, draw in (("retrieved", _retrieved), ("rematched", _rematched)):
            stem = f"{kind}-{stems[table.title]}"
            try:
                yield from computed.figures(
                    f"{stem} {data_root}", table.runs, folder, partial(draw, table, folder / stem, data_root)
                )
            except UserError as error:
                warn(f"no {kind} examples for {table.title}: {error}")


def _retrieved(table: Comparison, stem: Path, data_root: Path | None) -> list[Figure]:
    run = examples.best_retrieving(table)
    dataset = _dataset_with_pictures(run, data_root)
    found = None if run is None else Record(run.folder).top_k
    if run is None or dataset is None or found is None:
        return []
    drawn = examples.draw_retrieved(found, dataset, run.title, stem)
    return [_figure(f"Retrieved by {run.title}", drawn, examples.RETRIEVED_CAPTION, EXAMPLES_SECTION)]


def _rematched(table: Comparison, stem: Path, data_root: Path | None) -> list[Figure]:
    run = examples.best_rematching(table)
    dataset = _dataset_with_pictures(run, data_root)
    if run is None or dataset is None:
        return []
    audit = load_audit(run.folder, data_root)
    drawn = examples.draw_rematched(audit, run.title, stem)
    return [_figure(f"Rematched by {run.title}", drawn, examples.REMATCHED_CAPTION, EXAMPLES_SECTION)]


def _dataset_with_pictures(run: examples.ExampleRun | None, data_root: Path | None) -> Dataset | None:
    """Return the dataset of a run; None without a run, without the data root it needs, or without pictures.

    Raises UserError if the data found are not those of the run.
    """
    if run is None:
        return None
    record = Record(run.folder)
    spec = record.spec
    if data_root is None and recorded_needs_root(spec.dataset, spec.dataset_version, spec.dataset_digest):
        return None
    dataset = record.dataset(data_root)
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
