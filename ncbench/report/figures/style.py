"""What all figures share: line names, grids, and how they are saved."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.report.figures.looks import DARK, FAINT, GREY, INK, PAPER
from ncbench.runtime.files import write_atomic

FORMATS = ("svg", "png")
SANS = ["DejaVu Sans", "Verdana", "sans-serif"]  # Verdana has the same widths, where a browser lacks the first


@dataclass(frozen=True)
class Figure:
    """A figure of a page: its title, its SVG relative to the page, an optional caption, and the section it is in.

    Figures without a section are about scores.
    """

    title: str
    file: str
    caption: str = ""
    section: str = ""


def section_names(figures: Sequence[Figure]) -> list[str]:
    """Return the sections of `figures`, in order."""
    return list(dict.fromkeys(figure.section for figure in figures if figure.section))


def style() -> AbstractContextManager[None]:
    """Return the context to draw in: reproducible bytes, text that stays text, and no formulas in names."""
    from matplotlib import rc_context

    return rc_context(
        {
            "svg.hashsalt": "ncbench",
            "svg.fonttype": "none",
            "font.sans-serif": SANS,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "text.parse_math": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.edgecolor": GREY,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "grid.color": FAINT,
            "figure.facecolor": PAPER,
            "axes.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "lines.linewidth": 1.6,
            "lines.markersize": 6,
        }
    )


def tidy(panel: Any) -> None:
    """Add a light grid behind a panel and remove its top and right borders."""
    panel.grid(linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=3)


def line_names(frame: pd.DataFrame) -> pd.Series[str]:
    """Return the name of each run's line: its variant, and backbone, conditions and budget where they differ."""
    names = frame["variant"]
    if frame["backbone"].nunique() > 1:
        names = names + ", " + frame["backbone"]
    names = names + frame["conditions"].map(lambda text: f", {text}" if text else "")
    matched = frame[frame["allowance"] > 0]
    if len({*zip(matched["budget_unit"], matched["allowance"], strict=True)}) > 1:
        budgets = zip(frame["allowance"], frame["budget_unit"], strict=True)
        texts = [f", budget {Budget(amount, unit)}" if amount else "" for amount, unit in budgets]
        names = names + pd.Series(texts, frame.index)
    return names


def figure_files(stem: Path) -> list[Path]:
    """Return the SVG and the PNG of the figure `stem`."""
    return [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]


def save(figure: Any, stem: Path, dpi: int = 150) -> list[Path]:
    """Write a figure as SVG and PNG, `dpi` dots per inch, and return the files. Raises OSError.

    The SVG has dark colours where its reader prefers a dark scheme; the PNG is light.
    """
    for kind, path in zip(FORMATS, figure_files(stem), strict=True):
        content = io.BytesIO()
        # Without a date, the same figure gives the same bytes.
        figure.savefig(content, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else {"Software": None})
        written = content.getvalue()
        if kind == "svg":
            written = with_dark_scheme(written.decode()).encode()
        write_atomic(path, partial(_put, written))
    return figure_files(stem)


def with_dark_scheme(svg: str) -> str:
    """Return matplotlib's `svg` with a style sheet that replaces colours by those for dark ground."""
    rules = []
    for light, dark in DARK.items():
        for part in ("fill", "stroke"):
            # Attributes of matplotlib's groups are style="fill: #204982; ...".
            if f"{part}: {light}" in svg:
                rules.append(f'[style*="{part}: {light}"] {{ {part}: {dark} !important }}')
    sheet = "\n".join(rules)
    style_sheet = f'<style type="text/css">@media (prefers-color-scheme: dark) {{\n{sheet}\n}}</style>'
    return svg.replace("</defs>", f"</defs>\n {style_sheet}", 1)


def _put(content: bytes, file: Any) -> None:
    file.write(content)
