"""Average ranks of methods and their critical difference (Demšar, JMLR 7, 2006)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.report.figures.looks import GREY, INK, Look, line_looks
from ncbench.report.figures.style import save, style
from ncbench.report.tables.comparisons import AXES

SIGNIFICANCE_LEVEL = 0.05
MIN_METHODS = MIN_CELLS = 3


@dataclass(frozen=True)
class Ranking:
    """Average ranks of methods, best first (rank 1 is the best), over a number of `cells`.

    A cell is a comparison at one seed. `difference` is the critical difference.
    """

    ranks: Mapping[str, float]
    cells: int
    difference: float
    looks: Mapping[str, Look]

    def groups(self) -> list[tuple[str, ...]]:
        """Return the maximal groups of two or more methods without a significant difference, best first."""
        names, ranks = list(self.ranks), list(self.ranks.values())
        groups: list[tuple[int, int]] = []
        for start, rank in enumerate(ranks):
            end = max(i for i in range(start, len(ranks)) if i == start or ranks[i] - rank < self.difference)
            if end > start and (not groups or end > groups[-1][1]):
                groups.append((start, end))
        return [tuple(names[start : end + 1]) for start, end in groups]

    @property
    def caption(self) -> str:
        """The caption of the figure: what it shows and how far to trust it."""
        return (
            f"Average rank by rSum of {len(self.ranks)} methods over the {self.cells} cells (comparison and seed) in "
            "which all of them have a compute-matched run; lower is better. A bar joins methods that differ by "
            f"less than the critical difference of {self.difference:.2f} ranks (Nemenyi test at "
            f"{SIGNIFICANCE_LEVEL:g}, Demšar, 2006). The test assumes independent cells; cells of one dataset are not, "
            "so take it as a guide."
        )


def critical_difference(methods: int, cells: int) -> float:
    """Return the critical difference of average ranks at SIGNIFICANCE_LEVEL.

    It is q sqrt(k (k + 1) / 6 N) for k methods and N cells, where q is the quantile of the studentized range with
    infinite degrees of freedom, divided by sqrt(2).
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - SIGNIFICANCE_LEVEL, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * cells))


def rank_methods(frame: pd.DataFrame) -> Ranking | None:
    """Return the ranking of the variants in `frame` (of `load_runs`); None below MIN_METHODS or MIN_CELLS.

    References (which see the ground truth) and runs that are not compute-matched are left out. Ties get the mean of
    their ranks.
    """
    runs = frame[(frame["allowance"] > 0) & ~frame["sees_truth"].astype(bool)]
    if runs["variant"].nunique() < MIN_METHODS:
        return None
    table = runs.groupby([*AXES, "seed", "variant"])["rsum"].mean().unstack("variant").dropna()
    if len(table) < MIN_CELLS:
        return None
    ranks = table.rank(axis=1, ascending=False, method="average").mean().sort_index().sort_values(kind="stable")
    looks = line_looks(frame["variant"], set(frame.loc[frame["sees_truth"], "variant"]))
    return Ranking(
        {str(name): float(rank) for name, rank in ranks.items()},
        len(table),
        critical_difference(len(ranks), len(table)),
        {str(name): looks[str(name)] for name in ranks.index},
    )


def draw_ranking(ranking: Ranking, stem: Path) -> list[Path]:
    """Draw the critical-difference diagram of `ranking` and return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    count, groups = len(ranking.ranks), ranking.groups()
    below = 0.5 + 0.25 * len(groups)  # depth of the first name
    depth = below + 0.6 * (-(-count // 2) - 1) + 0.4
    longest = max(map(len, ranking.ranks))
    with style():
        figure = Figure(figsize=(7.5 + 0.13 * max(0, longest - 10), 0.9 + 0.42 * depth), layout="constrained")
        panel = figure.subplots()
        panel.set_axis_off()
        panel.set_ylim(-depth, 2.2)
        panel.set_xlim(1 - 0.3 * (count - 1), count + 0.3 * (count - 1))
        _draw_axis(panel, count, ranking.difference)
        _draw_names(panel, ranking, below)
        for number, group in enumerate(groups):
            best, worst = ranking.ranks[group[0]], ranking.ranks[group[-1]]
            margin = 0.01 * (count - 1)
            height = -0.3 - 0.25 * number
            ends = [best - margin, worst + margin]
            panel.plot(ends, [height] * 2, color=INK, linewidth=3.5, solid_capstyle="butt", zorder=1, label="group")
        return save(figure, stem)


def _draw_axis(panel: Any, count: int, difference: float) -> None:
    panel.plot([1, count], [0, 0], color=INK, linewidth=1)
    for rank in range(1, count + 1):
        panel.plot([rank, rank], [0, 0.15], color=INK, linewidth=1)
        panel.text(rank, 0.2, str(rank), ha="center", va="bottom")
    panel.text(1, 0.95, "← better", ha="left", va="bottom", fontsize=9)
    panel.text((1 + count) / 2, 0.95, "average rank by rSum, lower is better", ha="center", va="bottom", fontsize=9)
    panel.text(count, 0.95, "worse →", ha="right", va="bottom", fontsize=9)
    panel.errorbar([1 + difference / 2], [1.75], xerr=difference / 2, color=GREY, capsize=3, label="difference")
    panel.text(1 + difference + 0.01 * count, 1.75, f" critical difference {difference:.2f}", va="center", fontsize=9)


def _draw_names(panel: Any, ranking: Ranking, below: float) -> None:
    """Link the rank of each method to its name: the better half on the left, the best on top."""
    count = len(ranking.ranks)
    half = -(-count // 2)
    for place, (name, rank) in enumerate(ranking.ranks.items()):
        on_left, look = place < half, ranking.looks[name]
        height = -below - 0.6 * (place if on_left else count - 1 - place)
        end = 1 - 0.02 * (count - 1) if on_left else count + 0.02 * (count - 1)
        panel.plot([rank, rank, end], [0, height, height], color=look.colour, linewidth=1.2, label=name)
        panel.scatter([rank], [0], s=34 * look.scale**2, color=look.colour, marker=look.marker, zorder=3, linewidths=0)
        panel.scatter(
            [end], [height], s=34 * look.scale**2, color=look.colour, marker=look.marker, zorder=3, linewidths=0
        )
        side = ("right", f"{name}  {rank:.2f}   ") if on_left else ("left", f"   {rank:.2f}  {name}")
        panel.text(end, height, side[1], ha=side[0], va="center")
