"""Figures of leaderboards, as SVG and PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.files import write_atomic

# Okabe and Ito's colours, told apart by colour-blind readers; the last is a grey that prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
MARKERS = "osD^vP*"  # seven, so that colour and marker together tell 56 lines apart


def draw_ratios(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw rSum against noise ratio, a panel per protocol, a line per method, and return the files: SVG, PNG.

    Runs on clean pairs start the lines of every panel. Bands are one standard deviation over seeds. Lines of several
    backbones or budgets are told apart in the legend.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = frame.assign(line=_line_names(frame))
    protocols = sorted(set(lines["protocol"]) - {"clean"}) or ["clean"]
    names = sorted(set(lines["line"]))
    with rc_context({"svg.hashsalt": "ncbench", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=(1.5 + 4.2 * len(protocols), 4), layout="constrained")
        panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
        for panel, protocol in zip(panels, protocols, strict=True):
            shown = lines[lines["protocol"].isin([protocol, "clean"])]
            _draw_panel(panel, shown, names)
            panel.set_title(protocol)
        panels[0].set_ylabel("rSum on test (of 600)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        return [_save(figure, stem, kind) for kind in ("svg", "png")]


def _draw_panel(panel: Any, lines: pd.DataFrame, names: list[str]) -> None:
    for number, name in enumerate(names):
        rsum = lines[lines["line"] == name].groupby("noise")["rsum"].agg(["mean", "std"]).fillna(0.0)
        colour = COLOURS[number % len(COLOURS)]
        panel.plot(rsum.index, rsum["mean"], marker=MARKERS[number % len(MARKERS)], color=colour, label=name)
        panel.fill_between(
            rsum.index, rsum["mean"] - rsum["std"], rsum["mean"] + rsum["std"], color=colour, alpha=0.15, linewidth=0
        )
    panel.set_xlabel("share of mismatched pairs")
    panel.set_xticks(sorted(set(lines["noise"])))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _line_names(frame: pd.DataFrame) -> pd.Series[str]:
    names = frame["variant"]
    if frame["backbone"].nunique() > 1:
        names = names + ", " + frame["backbone"]
    names = names + frame["conditions"].map(lambda text: f", {text}" if text else "")
    matched = frame[frame["allowance"] > 0]
    if len({*zip(matched["budget_unit"], matched["allowance"], strict=True)}) > 1:
        budgets = zip(frame["allowance"], frame["budget_unit"], strict=True)
        told = [f", budget {Budget(amount, unit)}" if amount else "" for amount, unit in budgets]
        names = names + pd.Series(told, frame.index)
    return names


def _save(figure: Any, stem: Path, kind: str) -> Path:
    content = io.BytesIO()
    # A date in the file would make every report differ from the last.
    figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    path = stem.with_name(f"{stem.name}.{kind}")
    write_atomic(path, lambda file: file.write(content.getvalue()))
    return path
