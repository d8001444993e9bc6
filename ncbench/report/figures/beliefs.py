"""Histograms and reliability diagrams of P(clean): how well a method detects mismatched pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.evaluation.beliefs import CALIBRATION_BINS, Detection, detect, reliability
from ncbench.records.record import Record
from ncbench.report.figures.looks import BLUE, GREY, INK, RED
from ncbench.report.figures.style import save, style, tidy
from ncbench.report.tables.comparisons import Comparison

MAX_COLUMNS = 4
CAPTION = (
    "P(clean) that the method assigned to each training pair at the end of training, all seeds pooled. Above: the "
    "share of the clean and of the mismatched pairs in each bin. Below: the share of the pairs of a bin that are clean "
    "against their mean P(clean); a calibrated method is on the dashed line, and larger dots hold more pairs."
)


@dataclass(frozen=True)
class StatedBeliefs:
    """P(clean) and the ground truth, (pairs,) each, of the runs of a variant, concatenated over `seeds`.

    `silent` are the seeds whose records state no P(clean); `given` counts pairs left out because the method was given
    them as clean.
    """

    p_clean: NDArray[np.float64]
    clean: NDArray[np.bool_]
    seeds: tuple[int, ...] = (0,)
    silent: tuple[int, ...] = ()
    given: int = 0

    @property
    def note(self) -> str:
        """How many pairs of how many seeds these are, and what is missing."""
        seeds = "seed" if len(self.seeds) == 1 else "seeds"
        clean = int(self.clean.sum())
        parts = [f"{clean:,} clean, {len(self.clean) - clean:,} mismatched", f"{len(self.seeds)} {seeds}"]
        if self.silent:
            parts.append(f"no P(clean): seed {', '.join(map(str, self.silent))}")
        if self.given:
            parts.append(f"{self.given:,} given as clean left out")
        return "\n".join(parts)


@dataclass
class _Parts:
    p_clean: list[NDArray[np.float64]] = field(default_factory=list)
    clean: list[NDArray[np.bool_]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    given: int = 0


def draw_beliefs(p_clean: NDArray[np.float64], clean: NDArray[np.bool_], title: str, stem: Path) -> list[Path]:
    """Draw `p_clean` (pairs,), in [0, 1], against `clean` (pairs,), bool. Return the files: SVG, PNG.

    Left: histograms for clean and for mismatched pairs. Right: the reliability diagram (DeGroot and Fienberg, 1983)
    over the bins of the calibration error. Raises ValueError as `detect` does.
    """
    from matplotlib.figure import Figure

    found = detect(p_clean, clean)
    with style():
        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_histogram(left, p_clean, clean)
        left.set_title(_auc_in_words(found))
        left.set_ylabel("share of the pairs of a kind")
        left.set_xlabel("P(clean)")
        _draw_reliability(right, p_clean, clean)
        right.set_title(f"calibration error {found.calibration_error:.3f}")
        right.set_ylabel("share of clean pairs in the bin")
        right.set_xlabel("mean P(clean) of the bin")
        figure.suptitle(title)
        figure.legend(*_handles(), loc="outside lower center", ncols=4, frameon=False)
        return save(figure, stem)


def collect_beliefs(table: Comparison) -> dict[str, StatedBeliefs]:
    """Return what the runs of each variant state about their training pairs, in the order of the table.

    Variants that never state P(clean) or whose ground truth is unknown are left out, and so are pairs that the method
    was given as clean. Raises UserError for damaged beliefs.
    """
    found: dict[str, _Parts] = {}
    runs = table.runs.sort_values("seed")
    for variant, seed, folder in zip(runs["variant"], runs["seed"], runs["folder"], strict=True):
        beliefs, parts = Record(Path(folder)).beliefs, found.setdefault(str(variant), _Parts())
        if beliefs is None or beliefs.p_clean is None or beliefs.clean is None:
            parts.silent.append(int(seed))
            continue
        judged = np.setdiff1d(np.arange(len(beliefs.clean)), beliefs.given_clean)
        parts.p_clean.append(beliefs.p_clean[judged])
        parts.clean.append(beliefs.clean[judged])
        parts.seeds.append(int(seed))
        parts.given += len(beliefs.clean) - len(judged)
    stated = ((str(name), found[str(name)]) for name in table.rows["variant"] if found[str(name)].seeds)
    return {
        name: StatedBeliefs(
            np.concatenate(parts.p_clean),
            np.concatenate(parts.clean),
            tuple(parts.seeds),
            tuple(parts.silent),
            parts.given,
        )
        for name, parts in stated
    }


def draw_beliefs_by_variant(beliefs: Mapping[str, StatedBeliefs], title: str, stem: Path) -> list[Path]:
    """Draw a histogram and a reliability diagram per variant (of `collect_beliefs`). Return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    columns = min(len(beliefs), MAX_COLUMNS)
    rows = -(-len(beliefs) // columns)
    with style():
        figure = Figure(figsize=(0.5 + max(5.0, 2.4 * columns), 0.8 + 4.0 * rows), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False, sharex=True)
        for panel in grid.flat:
            panel.set_visible(False)
        highest = max(
            _shares(stated.p_clean[part]).max() for stated in beliefs.values() for part in _kinds(stated.clean)
        )
        for number, (name, stated) in enumerate(beliefs.items()):
            row, column = divmod(number, columns)
            upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
            found = detect(stated.p_clean, stated.clean)
            for panel in (upper, lower):
                panel.set_visible(True)
            _draw_histogram(upper, stated.p_clean, stated.clean)
            upper.set_ylim(0, 1.4 * highest)  # the notes need room
            upper.set_title(f"{name}: {_auc_in_words(found)}", fontsize=9.5)
            upper.text(0.5, 0.97, stated.note, transform=upper.transAxes, ha="center", va="top", fontsize=7.5)
            _draw_reliability(lower, stated.p_clean, stated.clean)
            lower.text(0.97, 0.04, f"calibration error {found.calibration_error:.3f}", ha="right", fontsize=8)
            if column:
                upper.tick_params(labelleft=False)
                lower.tick_params(labelleft=False)
            else:
                upper.set_ylabel("share of a kind")
                lower.set_ylabel("clean in the bin")
            if number + columns >= len(beliefs):
                lower.tick_params(labelbottom=True)
                lower.set_xlabel("P(clean)")
        figure.suptitle(title, fontsize=11)
        figure.legend(*_handles(), loc="outside lower center", ncols=4, frameon=False)
        return save(figure, stem)


def _auc_in_words(found: Detection) -> str:
    return "no AUC, pairs of one kind" if found.auc is None else f"AUC {found.auc:.3f}"


def _draw_histogram(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_]) -> None:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    looks: Mapping[str, Mapping[str, Any]] = {
        "clean": {"fill": True, "color": BLUE, "alpha": 0.35, "linewidth": 0},
        "mismatched": {"color": RED, "linewidth": 1.6},
    }
    for (name, look), part in zip(looks.items(), _kinds(clean), strict=True):
        panel.stairs(_shares(p_clean[part]), edges, label=name, **look)
    panel.set_xlim(0, 1)
    panel.set_ylim(bottom=0)
    tidy(panel)


def _draw_reliability(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_]) -> None:
    bins = reliability(p_clean, clean)
    panel.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    panel.plot(bins.mean_p_clean, bins.clean_share, color=INK, linewidth=1, label="P(clean)")
    panel.scatter(
        bins.mean_p_clean,
        bins.clean_share,
        s=8 + 90 * bins.pairs / bins.pairs.sum(),
        color=INK,
        linewidths=0,
        clip_on=False,
    )
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    tidy(panel)


def _kinds(clean: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return clean, ~clean


def _shares(p_clean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the pairs in each bin, (bins,)."""
    counts = np.histogram(p_clean, np.linspace(0, 1, CALIBRATION_BINS + 1))[0]
    shares: NDArray[np.float64] = counts / max(1, len(p_clean))
    return shares


def _handles() -> tuple[list[Any], list[str]]:
    """Return the one legend of a figure: handles and names."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return (
        [
            Patch(color=BLUE, alpha=0.35, linewidth=0),
            Line2D([], [], color=RED, linewidth=1.6),
            Line2D([], [], color=INK, marker="o", linewidth=1, markersize=5),
            Line2D([], [], color=GREY, linestyle="--", linewidth=1),
        ],
        ["clean pairs", "mismatched pairs", "bins of P(clean)", "calibrated"],
    )
