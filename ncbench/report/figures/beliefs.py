"""Histograms and reliability diagrams of P(clean): how well a method detects mismatched pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.evaluation.beliefs import CALIBRATION_BINS, Detection, detect, reliability
from ncbench.records.record import Record
from ncbench.report.figures.style import COLOURS, GREY, save, style, tidy
from ncbench.report.tables.comparisons import Comparison

MAX_COLUMNS = 4


def draw_beliefs(p_clean: NDArray[np.float64], clean: NDArray[np.bool_], title: str, stem: Path) -> list[Path]:
    """Draw `p_clean` (pairs,), in [0, 1], against `clean` (pairs,), bool. Return the files: SVG, PNG.

    Left: histograms for clean and for mismatched pairs. Right: the reliability diagram (DeGroot and Fienberg, 1983)
    over the bins of the calibration error. Raises ValueError as `detect` does.
    """
    from matplotlib.figure import Figure

    found = detect(p_clean, clean)
    with style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_histogram(left, p_clean, clean, found)
        _draw_reliability(right, p_clean, clean, found)
        figure.suptitle(title)
        return save(figure, stem)


def collect_beliefs(table: Comparison) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Return P(clean) and the ground truth, (pairs,) each, by variant, seeds concatenated.

    Runs whose records lack either are left out, and so are pairs that the method was given as clean.
    Raises UserError for damaged beliefs.
    """
    found: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {}
    for variant, folder in zip(table.runs["variant"], table.runs["folder"], strict=True):
        beliefs = Record(Path(folder)).beliefs
        if beliefs is not None and beliefs.p_clean is not None and beliefs.clean is not None:
            judged = np.setdiff1d(np.arange(len(beliefs.clean)), beliefs.told)
            found.setdefault(str(variant), []).append((beliefs.p_clean[judged], beliefs.clean[judged]))
    return {
        name: (np.concatenate([p for p, _ in parts]), np.concatenate([clean for _, clean in parts]))
        for name, parts in sorted(found.items())
    }


def draw_beliefs_by_variant(
    beliefs: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]], title: str, stem: Path
) -> list[Path]:
    """Draw a histogram and a reliability diagram per variant (of `collect_beliefs`). Return the files: SVG, PNG."""
    from matplotlib.figure import Figure

    columns = min(len(beliefs), MAX_COLUMNS)
    rows = -(-len(beliefs) // columns)
    with style():
        figure = Figure(figsize=(3.6 * columns, 6.6 * rows), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False)
        for panel in grid.flat:
            panel.set_visible(False)
        for number, (name, (p_clean, clean)) in enumerate(beliefs.items()):
            row, column = divmod(number, columns)
            upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
            found = detect(p_clean, clean)
            _draw_histogram(upper, p_clean, clean, found)
            upper.set_title(f"{name}: {upper.get_title()}", fontsize=10)
            _draw_reliability(lower, p_clean, clean, found)
            for panel in (upper, lower):
                panel.set_visible(True)
        figure.suptitle(title)
        return save(figure, stem)


def _draw_histogram(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_], found: Detection) -> None:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for name, part, colour in (("clean", clean, COLOURS[0]), ("mismatched", ~clean, COLOURS[1])):
        counts = np.histogram(p_clean[part], edges)[0]
        panel.stairs(counts, edges, fill=True, alpha=0.4, color=colour, label=f"{name} ({counts.sum():,})")
    panel.set_title("no AUC: pairs of one kind only" if found.auc is None else f"AUC {found.auc:.3f}")
    panel.set_xlabel("P(clean)")
    panel.set_ylabel("training pairs")
    panel.legend(frameon=False)
    tidy(panel)


def _draw_reliability(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_], found: Detection) -> None:
    bins = reliability(p_clean, clean)
    panel.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    panel.plot(bins.mean_p_clean, bins.clean_share, color=COLOURS[0], marker="o", label="P(clean)")
    panel.set_title(f"calibration error {found.calibration_error:.3f}")
    panel.set_xlabel("mean P(clean) of the bin")
    panel.set_ylabel("share of clean pairs in the bin")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.legend(frameon=False)
    tidy(panel)
