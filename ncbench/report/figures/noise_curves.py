"""rSum against noise ratio, as SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.noise.ratio import CLEAN
from ncbench.report.figures.style import draw_line, legend_size, line_names, save, style, tidy


def draw_ratios(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw rSum against noise ratio, a panel per protocol, a line per method, and return the files: SVG, PNG.

    Runs on clean pairs start the lines of every panel. Bands are one standard deviation over seeds. Lines of several
    backbones or budgets are told apart in the legend.
    """
    from matplotlib.figure import Figure

    lines = frame.assign(line=line_names(frame))
    protocols = sorted(set(lines["protocol"]) - {CLEAN}) or [CLEAN]
    names = sorted(set(lines["line"]))
    with style():
        width, height = legend_size(names)
        figure = Figure(figsize=(width + 4.2 * len(protocols), max(4, height)), layout="constrained")
        panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
        for panel, protocol in zip(panels, protocols, strict=True):
            shown = lines[lines["protocol"].isin([protocol, CLEAN])]
            _draw_panel(panel, shown, names)
            panel.set_title(protocol)
        panels[0].set_ylabel("rSum on test (of 600)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        return save(figure, stem)


def _draw_panel(panel: Any, lines: pd.DataFrame, names: list[str]) -> None:
    for number, name in enumerate(names):
        rsum = lines[lines["line"] == name].groupby("noise")["rsum"].agg(["mean", "std"]).fillna(0.0)
        draw_line(panel, rsum, number, label=name)
    panel.set_xlabel("share of mismatched pairs")
    panel.set_xticks(sorted(set(lines["noise"])))
    panel.set_ylim(bottom=0)
    tidy(panel)
