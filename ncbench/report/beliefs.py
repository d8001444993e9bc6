"""How well P(clean) tells mismatched pairs: its histogram, and what it says against what is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.evaluation import CALIBRATION_BINS, Detection, detect, reliability
from ncbench.report.drawing import COLOURS, save, style, tidy


def draw_beliefs(p_clean: NDArray[np.float64], clean: NDArray[np.bool_], title: str, stem: Path) -> list[Path]:
    """Draw `p_clean`, (pairs,) in [0, 1], against which pairs are `clean`, (pairs,) bool; return the files: SVG, PNG.

    On the left histograms of clean and mismatched pairs, on the right the reliability diagram (DeGroot and Fienberg,
    1983) over the bins of the calibration error. Raises ValueError as `detect`.
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


def _draw_histogram(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_], found: Detection) -> None:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for name, part, colour in (("clean", clean, COLOURS[0]), ("mismatched", ~clean, COLOURS[1])):
        counts = np.histogram(p_clean[part], edges)[0]
        panel.stairs(counts, edges, fill=True, alpha=0.4, color=colour, label=f"{name} ({counts.sum():,})")
    panel.set_title("AUC: needs both kinds of pairs" if found.auc is None else f"AUC {found.auc:.3f}")
    panel.set_xlabel("P(clean)")
    panel.set_ylabel("training pairs")
    panel.legend(frameon=False)
    tidy(panel)


def _draw_reliability(panel: Any, p_clean: NDArray[np.float64], clean: NDArray[np.bool_], found: Detection) -> None:
    bins = reliability(p_clean, clean)
    panel.plot([0, 1], [0, 1], color=COLOURS[-1], linestyle="--", label="calibrated")
    panel.plot(bins.said, bins.found, color=COLOURS[0], marker="o", label="P(clean)")
    panel.set_title(f"calibration error {found.calibration_error:.3f}")
    panel.set_xlabel("mean P(clean) of a bin")
    panel.set_ylabel("share of clean pairs in it")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.legend(frameon=False)
    tidy(panel)
