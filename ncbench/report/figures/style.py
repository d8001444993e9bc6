"""What figures share: looks, names of lines, files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.runtime.files import write_atomic

# Okabe and Ito's colours, told apart by colour-blind readers; the last is a grey that prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
MARKERS = "osD^vP*"  # seven, so that colour and marker together tell 56 lines apart
KINDS = ("svg", "png")


@dataclass(frozen=True)
class Figure:
    """A figure on a page: what it shows, its SVG beside the page, what is to be said below it, and its section.

    Those without a section stand above the tables.
    """

    shows: str
    file: str
    caption: str = ""
    section: str = ""


def sections_of(figures: Sequence[Figure]) -> list[str]:
    """Return the sections that figures name, in their order."""
    return list(dict.fromkeys(figure.section for figure in figures if figure.section))


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn: the same bytes every time, names as they are, no formulas."""
    from matplotlib import rc_context

    return rc_context({"svg.hashsalt": "ncbench", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False})


def look(number: int) -> dict[str, str]:
    """Return colour and marker of a line by its number among the names of a page."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def legend_size(names: Iterable[str]) -> tuple[float, float]:
    """Return width and height, in inches, that a legend of such lines takes beside the panels of a figure."""
    lengths = [len(name) for name in names]
    return max(1.5, 0.7 + 0.085 * max(lengths, default=0)), 0.3 + 0.21 * len(lengths)


def draw_line(panel: Any, points: pd.DataFrame, number: int, **words: Any) -> None:
    """Draw the line of `points`, columns `mean` and `std` by x, in its looks, and a band of one deviation about it."""
    looks = look(number)
    panel.plot(points.index, points["mean"], **looks, **words)
    low, high = points["mean"] - points["std"], points["mean"] + points["std"]
    panel.fill_between(points.index, low, high, color=looks["color"], alpha=0.15, linewidth=0)


def tidy(panel: Any) -> None:
    """Give a panel its grid, and take from it the frame that it does not need."""
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def line_names(frame: pd.DataFrame) -> pd.Series[str]:
    """Return what the line of every run is called: its variant, and what else differs between lines."""
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


def files_of(stem: Path) -> list[Path]:
    """Return the files of the figure called `stem`."""
    return [stem.with_name(f"{stem.name}.{kind}") for kind in KINDS]


def save(figure: Any, stem: Path, dpi: int = 150) -> list[Path]:
    """Write a figure and return its files: SVG, PNG of so many dots per inch. Raises OSError."""
    for kind, path in zip(KINDS, files_of(stem), strict=True):
        content = io.BytesIO()
        # A date in the file would make every report differ from the last.
        figure.savefig(content, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else {"Software": None})
        write_atomic(path, partial(_put, content.getvalue()))
    return files_of(stem)


def _put(content: bytes, file: Any) -> None:
    file.write(content)
