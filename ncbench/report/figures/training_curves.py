"""What runs were worth while they went on: dev rSum against the work spent so far."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import noise_in_words
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.report.figures.style import draw_line, legend_size, line_names, save, style, tidy

COLUMNS = ("id", "member", "evaluation", "work", "reached")
DASHES = ("-", "--")  # of the members of an ensemble
ABREAST = 4  # panels


def load_courses(folder: Path) -> pd.DataFrame:
    """Return a row per dev evaluation of the finished runs below `folder`; none of records without a history.

    `member` is the backbone that was trained, one of an ensemble or the run's own, `evaluation` counts its evaluations
    from 0, `work` is in FLOPs, its own, and `reached` the dev rSum. Raises UserError for a history that is damaged.
    """
    rows: list[tuple[str, str, int, int, float]] = []
    for record in Store(folder).results():
        rows += _rows(record)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def has_courses(frame: pd.DataFrame, courses: pd.DataFrame) -> bool:
    """Return whether `draw_courses` has anything to draw of the runs in `frame`."""
    return bool(courses["id"].isin(frame["id"]).any())


def draw_courses(frame: pd.DataFrame, courses: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw dev rSum against the work spent, a panel per protocol and ratio, and return the files: SVG, PNG.

    `frame` is of `load_runs`, `courses` of `load_courses`. Lines are named and look as in the figure of rSum against
    noise ratio; they are means over seeds, at the mean work of the n-th evaluation, with bands of one deviation. Work
    is in baseline epochs. The members of an ensemble, trained one after the other, have a line each.
    """
    from matplotlib.figure import Figure

    runs = frame.assign(line=line_names(frame), epoch=frame["flops"] / frame["used"])
    names = sorted(set(runs["line"]))
    lines = runs.merge(courses, on="id")
    lines["spent"] = lines["work"] / lines["epoch"]
    panels = list(lines.groupby(["noise", "protocol", "unit"], sort=True))
    columns = min(len(panels), ABREAST)
    rows = -(-len(panels) // columns)
    with style():
        width, height = legend_size(names)
        size = (width + 3.6 * columns, max(0.5 + 3.5 * rows, height))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        legend: dict[str, Any] = {}
        for panel, (_, part) in zip(grid.flat, panels, strict=False):
            _draw_panel(panel, part, names)
            legend |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        for panel in grid.flat[len(panels) :]:
            panel.set_visible(False)
        for row in grid:
            row[0].set_ylabel("rSum on dev (of 600)")
        order = sorted(legend)
        figure.legend([legend[name] for name in order], order, loc="outside right upper", frameon=False)
        return save(figure, stem)


def _draw_panel(panel: Any, part: pd.DataFrame, names: list[str]) -> None:
    for line, runs in part.groupby("line", sort=True):
        name, backbone = str(line), runs["backbone"].iloc[0]
        members = list(dict.fromkeys(runs["member"]))
        for number, member in enumerate(members):
            mine = runs[runs["member"] == member].groupby("evaluation", sort=True)
            points = mine["reached"].agg(["mean", "std"]).fillna(0.0).set_axis(mine["spent"].mean())
            label = name if members == [backbone] else f"{name}: its {member}"
            dashes = DASHES[number % len(DASHES)]
            draw_line(panel, points, names.index(name), label=label, linestyle=dashes, markersize=4)
    first = part.iloc[0]
    panel.set_title(noise_in_words(first["protocol"], first["noise"]))
    panel.set_xlabel("work spent, in baseline epochs")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    tidy(panel)


def _rows(record: Record) -> Iterator[tuple[str, str, int, int, float]]:
    """Yield the rows of a run, in the order of COLUMNS."""
    seen: dict[str, int] = {}
    name = record.result.id
    for line in record.history:
        seen[line.backbone] = seen.get(line.backbone, -1) + 1
        yield name, line.backbone, seen[line.backbone], line.work, line.dev.rsum
