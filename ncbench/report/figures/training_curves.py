"""Training curves: dev rSum against the training work spent so far."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import noise_in_words
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.report.figures.style import Look, draw_line, legend_size, line_looks, line_names, save, style, tidy

COLUMNS = ("id", "member", "evaluation", "work", "dev_rsum")
MEMBER_DASHES = {"-": ("-", "--"), "--": ("--", ":")}  # of the members of an ensemble, by the dashes of its look
MAX_COLUMNS = 4


def load_training_curves(folder: Path, only: Container[str] | None = None) -> pd.DataFrame:
    """Return one row per dev evaluation of the finished runs in `folder`. Runs without a history have no rows.

    `member` is the backbone that was trained: the run's own, or one of an ensemble. `evaluation` counts the
    evaluations of this member from 0, `work` is its training work in FLOPs, `dev_rsum` the result.
    `only` are the folders of the runs to read (None: all). Raises UserError for a damaged history.
    """
    records = (record for record in Store(folder).results() if only is None or str(record.folder) in only)
    rows = [row for record in records for row in _rows(record)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def has_training_curves(frame: pd.DataFrame, curves: pd.DataFrame) -> bool:
    """Return whether any run in `frame` has a training curve."""
    return bool(curves["id"].isin(frame["id"]).any())


def draw_training_curves(frame: pd.DataFrame, curves: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw dev rSum against work, one panel per protocol and ratio. Return the files: SVG, PNG.

    `frame` is of `load_runs`, `curves` of `load_training_curves`. Names and looks of lines are those of the figure of
    rSum against noise ratio. Lines are means over seeds, at the mean work (in baseline epochs) of the n-th evaluation,
    bands one standard deviation. The members of an ensemble are trained one after the other and have a line each.
    """
    from matplotlib.figure import Figure

    runs = frame.assign(line=line_names(frame), epoch=frame["flops"] / frame["used"])
    looks = line_looks(runs["line"], set(runs.loc[runs["sees_truth"], "line"]))
    # Runs have a dev_rsum of their own, that of the selected network.
    lines = runs.drop(columns="dev_rsum").merge(curves, on="id")
    lines["spent"] = lines["work"] / lines["epoch"]
    panels = list(lines.groupby(["noise", "protocol", "unit"], sort=True))
    columns = min(len(panels), MAX_COLUMNS)
    rows = -(-len(panels) // columns)
    with style():
        width, height = legend_size(looks)
        size = (width + 3.6 * columns, max(0.5 + 3.5 * rows, height))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        legend: dict[str, Any] = {}
        for panel, (_, part) in zip(grid.flat, panels, strict=False):
            _draw_panel(panel, part, looks)
            legend |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        for panel in grid.flat[len(panels) :]:
            panel.set_visible(False)
        for row in grid:
            row[0].set_ylabel("rSum on dev (of 600)")
        order = sorted(legend)
        figure.legend([legend[name] for name in order], order, loc="outside right upper", frameon=False)
        return save(figure, stem)


def _draw_panel(panel: Any, part: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    for line, runs in part.groupby("line", sort=True):
        name, backbone = str(line), runs["backbone"].iloc[0]
        members = list(dict.fromkeys(runs["member"]))
        dashes = MEMBER_DASHES[looks[name].dashes]
        for number, member in enumerate(members):
            mine = runs[runs["member"] == member].groupby("evaluation", sort=True)
            points = mine["dev_rsum"].agg(["mean", "std"]).fillna(0.0).set_axis(mine["spent"].mean())
            label = name if members == [backbone] else f"{name}: {member}"
            draw_line(panel, points, looks[name], label=label, linestyle=dashes[number % len(dashes)], markersize=4)
    first = part.iloc[0]
    panel.set_title(noise_in_words(first["protocol"], first["noise"]))
    panel.set_xlabel("training work (baseline epochs)")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    tidy(panel)


def _rows(record: Record) -> Iterator[tuple[str, str, int, int, float]]:
    """Yield the rows of a run, in the order of COLUMNS."""
    evaluations: dict[str, int] = {}
    name = record.result.id
    for line in record.history:
        evaluations[line.backbone] = evaluations.get(line.backbone, -1) + 1
        yield name, line.backbone, evaluations[line.backbone], line.work, line.dev.rsum
