"""rSum against noise ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import CLEAN
from ncbench.report.figures.style import Look, draw_line, line_looks, line_names, save, style, tidy

LABEL_SIZE = 9  # points
LABEL_HEIGHT = 0.17  # inches
MARGINS = 0.8  # inches above and below a panel
CROWDED = 6  # lines: bands of more are drawn fainter


def draw_noise_curves(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw rSum against noise ratio, one panel per protocol, one line per method. Return the files: SVG, PNG.

    Lines are means over seeds, bands one standard deviation. Runs on clean pairs are in every panel, at ratio 0. Lines
    are labelled at their right end, the best on top. `frame` is of `load_runs` or read from runs.csv.
    """
    from matplotlib.figure import Figure

    lines = frame.assign(line=line_names(frame))
    looks = line_looks(lines["line"], set(lines.loc[lines["sees_truth"], "line"]))
    protocols = set(lines["protocol"]) - {CLEAN} or {CLEAN}
    parts = {protocol: lines[lines["protocol"].isin([protocol, CLEAN])] for protocol in sorted(protocols)}
    ordered = sorted(parts.items(), key=lambda part: -part[1]["noise"].nunique())
    widths = [1.6 + 0.7 * part["noise"].nunique() for _, part in ordered]
    label_width = 0.5 + 0.08 * max(map(len, looks))
    height = max(4.0, MARGINS + LABEL_HEIGHT * len(looks))
    with style():
        size = (0.6 + sum(widths) + label_width * len(widths), height)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
        ends = [_draw_panel(panel, part, looks) for panel, (_, part) in zip(panels, ordered, strict=True)]
        gap = LABEL_HEIGHT / (height - MARGINS)
        for panel, (protocol, _), points in zip(panels, ordered, ends, strict=True):
            panel.set_title(protocol)
            _label_lines(panel, points, looks, gap)
        panels[0].set_ylabel("rSum on test (of 600)")
        return save(figure, stem)


def _draw_panel(panel: Any, lines: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, tuple[float, float]]:
    """Draw the lines of a protocol and return the last point of each."""
    names = sorted(set(lines["line"]))
    ends = {}
    for name in names:
        rsum = lines[lines["line"] == name].groupby("noise")["rsum"].agg(["mean", "std"]).fillna(0.0)
        draw_line(panel, rsum, looks[name], label=name, band_alpha=0.15 if len(names) <= CROWDED else 0.06)
        ends[name] = (float(rsum.index[-1]), float(rsum["mean"].iloc[-1]))
    panel.set_xlabel("noise ratio (share of mismatched pairs)")
    panel.set_xticks(sorted(set(lines["noise"])))
    panel.set_ylim(bottom=0)
    tidy(panel)
    return ends


def _label_lines(panel: Any, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, Look], gap: float) -> None:
    """Write the name of each line to the right of the panel, `gap` apart (fraction of its height), and link it."""
    top = panel.get_ylim()[1]
    names = sorted(ends, key=lambda name: (ends[name][1], name))
    heights = spread([ends[name][1] / top for name in names], gap)
    for name, height in zip(names, heights, strict=True):
        panel.annotate(
            name,
            ends[name],
            (1.06, height),
            textcoords="axes fraction",
            va="center",
            fontsize=LABEL_SIZE,
            color=looks[name].colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": looks[name].colour,
                "linewidth": 0.6,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return ascending `heights` moved as far as needed to be `gap` apart, within [0, 1] if they fit."""
    moved = list(heights)
    for number in range(1, len(moved)):
        moved[number] = max(moved[number], moved[number - 1] + gap)
    limit = 1.0
    for number in reversed(range(len(moved))):
        moved[number] = min(moved[number], limit)
        limit = moved[number] - gap
    return moved
