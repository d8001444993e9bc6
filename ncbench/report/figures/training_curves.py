"""Training curves: dev rSum, and how good beliefs are, against the training work spent so far."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import noise_in_words
from ncbench.records.gathered import results_of
from ncbench.records.record import Record
from ncbench.report.figures.lines import FEW, draw_line, label_lines, label_width, panel_height
from ncbench.report.figures.looks import PAPER, Look, line_looks
from ncbench.report.figures.style import line_names, save, style, tidy

COLUMNS = ("id", "member", "evaluation", "work", "dev_rsum", "auc", "calibration_error", "rematched")
LABELS = {
    "dev_rsum": "rSum on dev (of 600)",
    "auc": "AUC of P(clean)",
    "calibration_error": "calibration error of P(clean)",
    "rematched": "mass rematched to better images",
}
"""What the axes of the figures say, by the column that is drawn."""
MAX_COLUMNS = 3
CAPTION = "Means over seeds, at the mean work of each evaluation; names are in the order of the last points."


def load_training_curves(folders: Sequence[Path], only: Container[str] | None = None) -> pd.DataFrame:
    """Return one row per dev evaluation of the finished runs in `folders`. Runs without a history have no rows.

    `member` is the backbone that was trained: the run's own, or one of an ensemble. `evaluation` counts the
    evaluations of this member from 0, `work` is its training work in FLOPs, `dev_rsum` the result. `auc` and
    `calibration_error` say how well P(clean) tells mismatched pairs by then, `rematched` which share of the mass of a
    transport plan goes to images that fit better than the claimed ones; NaN without.
    `only` are the folders of the runs to read (None: all). Raises UserError for a damaged history.
    """
    records = (record for record in results_of(folders) if only is None or str(record.folder) in only)
    rows = [row for record in records for row in _rows(record)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[-3:], float))


def has_training_curves(frame: pd.DataFrame, curves: pd.DataFrame, value: str = "dev_rsum") -> bool:
    """Return whether any run in `frame` has a training curve of the column `value`."""
    return bool(curves.loc[curves[value].notna(), "id"].isin(frame["id"]).any())


def draw_training_curves(frame: pd.DataFrame, curves: pd.DataFrame, stem: Path, value: str = "dev_rsum") -> list[Path]:
    """Draw the column `value` against work, one panel per protocol and ratio. Return the files: SVG, PNG.

    `frame` is of `load_runs`, `curves` of `load_training_curves`. Names and looks of lines are those of the figure of
    rSum against noise ratio. Lines are means over seeds, at the mean work (in baseline epochs) of the n-th evaluation;
    few lines have bands of one standard deviation. The members of an ensemble are trained one after the other and have
    a line each, with hollow markers after the first.
    """
    from matplotlib.figure import Figure

    runs = frame.assign(line=line_names(frame), epoch=frame["flops"] / frame["used"])
    looks = line_looks(runs["line"], set(runs.loc[runs["sees_truth"].astype(bool), "line"]))
    # Runs have a dev_rsum of their own, that of the selected network.
    lines = runs.drop(columns=[name for name in LABELS if name in runs]).merge(curves[curves[value].notna()], on="id")
    lines["spent"] = lines["work"] / lines["epoch"]
    panels = list(lines.groupby(["protocol", "noise", "unit"], sort=True))
    columns = min(len(panels), MAX_COLUMNS)
    rows = -(-len(panels) // columns)
    drawn = max(len(part.groupby(["line", "member"])) for _, part in panels)
    height = panel_height(drawn, 2.2)
    names = {_label(str(line), str(member), part) for _, part in panels for line, member in _members(part)}
    with style():
        size = (0.6 + (2.0 + label_width(names)) * columns, 0.5 + (height + 0.5) * rows)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        shown = [*zip(grid.flat, panels, strict=False)]
        ends = [_draw_panel(panel, part, looks, value) for panel, (_, part) in shown]
        for place, ((panel, _), (points, found)) in enumerate(zip(shown, ends, strict=True)):
            label_lines(panel, points, found, height)
            panel.tick_params(labelbottom=place + columns >= len(panels))
        for panel in grid.flat[len(panels) :]:
            panel.set_visible(False)
        figure.supxlabel("training work (baseline epochs)", fontsize=10)
        figure.supylabel(LABELS[value], fontsize=10)
        return save(figure, stem)


def _members(part: pd.DataFrame) -> list[tuple[object, object]]:
    """Return the lines of a panel and the members that were trained for each, in order."""
    return list(dict.fromkeys(zip(part["line"], part["member"], strict=True)))


def _label(line: str, member: str, part: pd.DataFrame) -> str:
    """Return what a line is called: the member is named if it is not all that was trained."""
    alone = (part.loc[part["line"] == line, "member"] == part.loc[part["line"] == line, "backbone"]).all()
    return line if alone else f"{line}: {member}"


def _draw_panel(
    panel: Any, part: pd.DataFrame, looks: Mapping[str, Look], value: str
) -> tuple[dict[str, tuple[float, float]], dict[str, Look]]:
    """Draw the lines of a panel; return the last point and the look of each, by label."""
    members = sorted(_members(part), key=lambda found: str(found[0]))
    seen: dict[object, int] = {}
    ends, labelled = {}, {}
    for line, member in members:
        number = seen[line] = seen.get(line, -1) + 1
        mine = part[(part["line"] == line) & (part["member"] == member)].groupby("evaluation", sort=True)
        points = mine[value].agg(["mean", "std"]).fillna(0.0).set_axis(mine["spent"].mean())
        label, look = _label(str(line), str(member), part), looks[str(line)]
        hollow = {"markerfacecolor": PAPER, "markeredgecolor": look.colour, "markeredgewidth": 1.0} if number else {}
        spread = "band" if len(members) <= FEW else ""
        draw_line(panel, points, look, spread=spread, label=label, size=4, **hollow)
        ends[label] = (float(points.index[-1]), float(points["mean"].iloc[-1]))
        labelled[label] = look
    first = part.iloc[0]
    panel.set_title(noise_in_words(first["protocol"], first["noise"]))
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    tidy(panel)
    return ends, labelled


def _rows(record: Record) -> Iterator[tuple[str, str, int, int, float, float | None, float | None, float | None]]:
    """Yield the rows of a run, in the order of COLUMNS."""
    evaluations: dict[str, int] = {}
    name = record.result.id
    for line in record.history:
        evaluations[line.backbone] = evaluations.get(line.backbone, -1) + 1
        found = line.detection
        beliefs = (found.auc, found.calibration_error) if found else (None, None)
        rematched = line.plan.better if line.plan else None
        yield name, line.backbone, evaluations[line.backbone], line.work, line.dev.rsum, *beliefs, rematched
