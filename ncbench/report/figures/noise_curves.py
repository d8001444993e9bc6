"""rSum against noise ratio: all methods in one panel per protocol, and one panel per method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import CLEAN
from ncbench.report.figures.lines import draw_line, label_lines, label_width, panel_height, shown_spread
from ncbench.report.figures.looks import FAINT, Look, line_looks
from ncbench.report.figures.style import line_names, save, style, tidy

X_LABEL, Y_LABEL = "noise ratio (share of mismatched pairs)", "rSum on test (of 600)"
LEADERS = 2  # contestants whose spread is shown among many
FEWEST_METHODS, MAX_COLUMNS = 4, 4  # of the figure with a panel per method
CAPTION = (
    "Means over seeds. Vertical bars are one standard deviation, drawn for the {leaders} methods with the best average "
    "and for references (dashed); the next figure shows it for all."
)
CAPTION_OF_FEW = "Means over seeds; bands are one standard deviation."
CAPTION_BY_METHOD = (
    "The same lines, one method at a time, best average first: its mean over seeds with a band of one standard "
    "deviation, and in grey all other methods."
)


def draw_noise_curves(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw rSum against noise ratio, one panel per protocol, one line per method. Return the files: SVG, PNG.

    Runs on clean pairs are in every panel, at ratio 0. Names are at the right end of the lines, the best on top.
    `frame` is of `load_runs` or read from runs.csv.
    """
    from matplotlib.figure import Figure

    lines, looks, references = _named(frame)
    parts = _protocols(lines)
    ratios = [max(2, part["noise"].nunique()) for _, part in parts]
    height = panel_height(len(looks), 3.2)
    widths = [1.4 + 0.55 * count for count in ratios]
    with style():
        size = (0.7 + sum(widths) + (label_width(looks) + 0.3) * len(widths), height + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
        chosen = {*_by_average(lines, references)[:LEADERS], *references}
        ends = [_draw_panel(panel, part, looks, chosen) for panel, (_, part) in zip(panels, parts, strict=True)]
        for panel, (protocol, _), points in zip(panels, parts, ends, strict=True):
            panel.set_title(protocol)
            label_lines(panel, points, looks, height)
        panels[0].set_ylabel(Y_LABEL)
        return save(figure, stem)


def curves_caption(frame: pd.DataFrame) -> str:
    """Return the caption of the figure with all methods."""
    lines, _, _ = _named(frame)
    few = all(part["line"].nunique() <= FEWEST_METHODS - 1 for _, part in _protocols(lines))
    return CAPTION_OF_FEW if few else CAPTION.format(leaders="two")


def draw_curves_by_method(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw a panel per method for the protocol with the most ratios; nothing for few methods or a single ratio."""
    from matplotlib.figure import Figure

    lines, looks, references = _named(frame)
    protocol, part = _protocols(lines)[0]
    names = [*_by_average(part, references), *sorted(references & set(part["line"]))]
    if len(names) < FEWEST_METHODS or part["noise"].nunique() < 2:
        return []
    columns = min(len(names), MAX_COLUMNS)
    rows = -(-len(names) // columns)
    points = {name: _points(part, name) for name in names}
    with style():
        figure = Figure(figsize=(2.3 * columns + 0.4, 1.75 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, panel in enumerate(grid.flat):
            if place >= len(names):
                panel.set_visible(False)
                continue
            for other in names:
                panel.plot(points[other].index, points[other]["mean"], color=FAINT, linewidth=0.8, label="_other")
            name = names[place]
            draw_line(panel, points[name], looks[name], spread="band", label=name, size=5)
            panel.set_title(_shortened(name), fontsize=9.5)
            _fit_axes(panel, part)
            panel.grid(visible=False)  # the other methods are as grey
            if place + columns >= len(names):
                panel.tick_params(labelbottom=True)
        figure.supxlabel(f"{X_LABEL}, {protocol}", fontsize=10)
        figure.supylabel(Y_LABEL, fontsize=10)
        return save(figure, stem)


def _named(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Look], set[str]]:
    """Return the runs with the name of their line, the looks of the lines, and which are references."""
    lines = frame.assign(line=line_names(frame))
    references = set(lines.loc[lines["sees_truth"].astype(bool), "line"])
    return lines, line_looks(lines["line"], references), references


def _protocols(lines: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the runs of each protocol, with those on clean pairs; the protocol with the most ratios first.

    Without a run under a protocol, but with one under another, a line has no clean runs in it either.
    """
    protocols = set(lines["protocol"]) - {CLEAN} or {CLEAN}
    elsewhere = {each: set(lines.loc[~lines["protocol"].isin([each, CLEAN]), "line"]) for each in protocols}
    parts = []
    for protocol in sorted(protocols):
        runs = lines[lines["protocol"].isin([protocol, CLEAN])]
        missing = elsewhere[protocol] - set(runs.loc[runs["protocol"] == protocol, "line"])
        parts.append((protocol, runs[~runs["line"].isin(missing)]))
    return sorted(parts, key=lambda part: -part[1]["noise"].nunique())


def _by_average(lines: pd.DataFrame, references: Collection[str]) -> list[str]:
    """Return the contestants by their mean over noise ratios, best first."""
    means = lines[~lines["line"].isin(references)].groupby(["line", "protocol", "noise"])["rsum"].mean()
    return [str(name) for name in means.groupby("line").mean().sort_values(ascending=False, kind="stable").index]


def _points(lines: pd.DataFrame, name: str) -> pd.DataFrame:
    return lines[lines["line"] == name].groupby("noise")["rsum"].agg(["mean", "std"]).fillna(0.0)


def _draw_panel(
    panel: Any, lines: pd.DataFrame, looks: Mapping[str, Look], chosen: Collection[str]
) -> dict[str, tuple[float, float]]:
    """Draw the lines of a protocol and return the last point of each."""
    names = sorted(set(lines["line"]))
    ends = {}
    for name in names:
        points = _points(lines, name)
        draw_line(panel, points, looks[name], label=name, spread=shown_spread(names, chosen, name))
        ends[name] = (float(points.index[-1]), float(points["mean"].iloc[-1]))
    panel.set_xlabel(X_LABEL)
    _fit_axes(panel, lines)
    return ends


def _fit_axes(panel: Any, lines: pd.DataFrame) -> None:
    """Put a tick at each ratio that has room for it, and begin at zero."""
    ratios = sorted(set(lines["noise"]))
    kept: list[float] = []
    for ratio in ratios:
        if not kept or ratio - kept[-1] >= (ratios[-1] - ratios[0]) / 10:
            kept.append(ratio)
    panel.set_xticks(kept, [f"{ratio:g}" for ratio in kept])
    panel.set_ylim(bottom=0)
    tidy(panel)


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"
