"""Lines of means with their spread over seeds, named at their right ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from ncbench.report.figures.looks import Look

LABEL_SIZE = 8.5  # points
LABEL_HEIGHT = 0.16  # inches
FEW = 3  # lines whose bands can still be told apart
NAME_PLACE, MARKER_PLACE = 1.11, 1.075  # fractions of the panel's width


def draw_line(
    panel: Any, points: pd.DataFrame, look: Look, *, spread: str = "", size: float = 6.0, **options: Any
) -> None:
    """Draw a line through `points` (columns `mean` and `std` by x).

    `spread` shows one standard deviation as a "band" or as "bars"; empty: not at all. `size` is that of the
    markers, in points.
    """
    drawn = {"color": look.colour, "marker": look.marker, "linestyle": look.dashes, "markersize": size * look.scale}
    drawn |= {"markeredgecolor": "#ffffff", "markeredgewidth": 0.5, **options}
    panel.plot(points.index, points["mean"], **drawn)
    low, high = points["mean"] - points["std"], points["mean"] + points["std"]
    if spread == "band":
        panel.fill_between(points.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
    elif spread == "bars":
        panel.vlines(points.index, low, high, colors=look.colour, linewidth=1.0, alpha=0.7)


def shown_spread(names: Collection[str], chosen: Collection[str], name: str) -> str:
    """Return how the spread of a line is drawn: as a band among few lines, else as bars of the `chosen` ones."""
    if len(names) <= FEW:
        return "band"
    return "bars" if name in chosen else ""


def label_width(names: Collection[str]) -> float:
    """Return the inches that names to the right of a panel take, besides their distance to it."""
    return 0.25 + 0.075 * max(map(len, names), default=0)


def panel_height(lines: int, least: float) -> float:
    """Return the height in inches of a panel beside which the names of so many lines fit."""
    return max(least, LABEL_HEIGHT * lines)


def label_lines(panel: Any, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, Look], height: float) -> None:
    """Write the name of each line to the right of the panel, in the order of their last points `ends`, and link it.

    The panel is `height` inches high; its limits are final.
    """
    bottom, top = panel.get_ylim()
    names = sorted(ends, key=lambda name: (ends[name][1], name))
    places = spread_out([(ends[name][1] - bottom) / (top - bottom) for name in names], LABEL_HEIGHT / height)
    for name, place in zip(names, places, strict=True):
        look = looks[name]
        panel.annotate(
            name,
            ends[name],
            (NAME_PLACE, place),
            textcoords="axes fraction",
            va="center",
            fontsize=LABEL_SIZE,
            annotation_clip=False,
        )
        panel.annotate(
            "",
            ends[name],
            (MARKER_PLACE, place),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": look.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )
        panel.scatter(
            [MARKER_PLACE],
            [place],
            s=22 * look.scale**2,
            color=look.colour,
            marker=look.marker,
            linewidths=0,
            transform=panel.transAxes,
            clip_on=False,
        )


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Return ascending `heights` moved as far as needed to be `gap` apart, within [0, 1] if they fit.

    Heights that are too close are moved apart around their mean.
    """
    groups: list[list[float]] = []  # the sum of the heights less their steps, their number, the height of the first
    for height in heights:
        group = [height, 1.0, height]
        while groups and groups[-1][2] + groups[-1][1] * gap > group[2]:
            before = groups.pop()
            total = before[0] + group[0] - group[1] * before[1] * gap
            count = before[1] + group[1]
            group = [total, count, total / count]
            group[2] = min(max(0.0, group[2]), max(0.0, 1 - (count - 1) * gap))
        group[2] = min(max(0.0, group[2]), max(0.0, 1 - (group[1] - 1) * gap))
        groups.append(group)
    return [start + number * gap for _, count, start in groups for number in range(int(count))]
