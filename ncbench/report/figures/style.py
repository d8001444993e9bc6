"""What all figures share: colours, markers, line names, and how they are saved."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.runtime.files import write_atomic

# The first seven are Okabe and Ito's, which colour-blind readers can tell apart.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#7B3FB5",
    "#8B5A2B",
    "#8F8F1F",
    "#7FBF00",
)
GREY = "#777777"
MARKERS = "osD^vP*X<>"  # 10 markers and 11 colours: 110 different lines
FORMATS = ("svg", "png")

# These have the same colour and marker on every page; other methods take those that are left.
METHODS = ("l2rm", "rce", "rcl", "ncr", "infonce", "decl", "triplet", "gsc", "mscn", "crcl", "bicro")


@dataclass(frozen=True)
class Figure:
    """A figure of a page: its title, its SVG relative to the page, an optional caption, and the section it is in.

    Figures without a section come before the tables.
    """

    title: str
    file: str
    caption: str = ""
    section: str = ""


@dataclass(frozen=True)
class Look:
    """How a line is drawn, in matplotlib's words."""

    colour: str
    marker: str
    dashes: str = "-"


def section_names(figures: Sequence[Figure]) -> list[str]:
    """Return the sections of `figures`, in order."""
    return list(dict.fromkeys(figure.section for figure in figures if figure.section))


def style() -> AbstractContextManager[None]:
    """Return the context to draw in: reproducible bytes, text that stays text, and no formulas in names."""
    from matplotlib import rc_context

    return rc_context({"svg.hashsalt": "ncbench", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False})


def line_looks(names: Iterable[str], references: Collection[str] = ()) -> dict[str, Look]:
    """Return a look for each of `names`; `references` are grey and dashed."""
    ordered = sorted(set(names))
    numbers = {name: METHODS.index(name) for name in ordered if name in METHODS and name not in references}
    free = (number for number in count() if number not in set(numbers.values()))
    numbers |= {name: next(free) for name in ordered if name not in numbers and name not in references}
    looks = {name: Look(COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]) for name, n in numbers.items()}
    looks |= {
        name: Look(GREY, MARKERS[n % len(MARKERS)], "--")
        for n, name in enumerate(name for name in ordered if name in references)
    }
    return looks


def draw_line(panel: Any, points: pd.DataFrame, look: Look, *, band_alpha: float = 0.15, **options: Any) -> None:
    """Draw a line through `points` (columns `mean` and `std` by x) and a band of one standard deviation around it."""
    panel.plot(
        points.index,
        points["mean"],
        **{"color": look.colour, "marker": look.marker, "linestyle": look.dashes, **options},
    )
    low, high = points["mean"] - points["std"], points["mean"] + points["std"]
    panel.fill_between(points.index, low, high, color=look.colour, alpha=band_alpha, linewidth=0)


def legend_size(names: Iterable[str]) -> tuple[float, float]:
    """Return the width and height in inches of a legend with these names."""
    lengths = [len(name) for name in names]
    return max(1.5, 0.7 + 0.085 * max(lengths, default=0)), 0.3 + 0.21 * len(lengths)


def tidy(panel: Any) -> None:
    """Add a grid to a panel and remove its top and right borders."""
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


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
    """Write a figure as SVG and PNG, `dpi` dots per inch, and return the files. Raises OSError."""
    for kind, path in zip(FORMATS, figure_files(stem), strict=True):
        content = io.BytesIO()
        # Without a date, the same figure gives the same bytes.
        figure.savefig(content, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else {"Software": None})
        write_atomic(path, partial(_put, content.getvalue()))
    return figure_files(stem)


def _put(content: bytes, file: Any) -> None:
    file.write(content)
