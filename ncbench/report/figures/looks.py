"""How methods look in all figures and pages: one colour and one marker each, on light and on dark ground.

The colours were searched for the largest differences as seen with normal vision, protanopia, deuteranopia and
tritanopia (Machado et al., 2009), with a contrast of at least 3 to the ground. Grey print cannot tell so many colours
apart; there the markers do.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

INK, GREY, FAINT, PAPER = "#1a1a1a", "#6b6b6b", "#d0d0d0", "#ffffff"
BLUE, RED, GREEN = "#204982", "#ba3418", "#007e53"

# The methods that ncbench ships, in the order of their colours and markers.
METHODS = (
    "l2rm",
    "rce",
    "rcl",
    "ncr",
    "infonce",
    "decl",
    "triplet",
    "gsc",
    "mscn",
    "crcl",
    "bicro",
    "gce",
    "rince",
    "coteaching",
)
COLOURS = (
    BLUE,
    RED,
    GREEN,
    "#b6598c",
    "#ac9000",
    "#0188dc",
    INK,
    "#500c99",
    "#481e00",
    "#506412",
    "#639b3f",
    "#0000ff",
    "#bb33ff",
    "#cc00aa",
)
MARKERS = ("o", "s", "D", "^", "v", "P", "*", "X", "<", "p", "h", ">", "d", "8")

DARK = {
    **dict(
        zip(
            COLOURS,
            (
                "#4a77a9",
                "#ff7760",
                "#38d68b",
                "#dc9cb4",
                "#ca8500",
                "#a3deff",
                "#f2f2f2",
                "#9569ef",
                "#8c5c2a",
                "#d9cd54",
                "#b9fa1b",
                "#9900ff",
                "#ff00bb",
                "#cc2266",
            ),
            strict=True,
        )
    ),
    GREY: "#a8a8a8",
    FAINT: "#41474e",
    PAPER: "#15181c",
}
"""The colour on dark ground of every colour in figures."""

DASHES = ("-", "-.", ":", (0, (8, 2)), (0, (1, 3)), (0, (8, 2, 1, 2, 1, 2)))
"""Of the variants of one method, which share its colour and marker."""
REFERENCE_DASHES = "--"

MARKER_SCALES = {"*": 1.6, "P": 1.15, "X": 1.15, "D": 0.85, "s": 0.95}
"""Sizes that make markers look equally large."""


@dataclass(frozen=True)
class Look:
    """How a line is drawn, in matplotlib's words."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[int, ...]] = "-"

    @property
    def scale(self) -> float:
        """The size of the marker, relative to others."""
        return MARKER_SCALES.get(self.marker, 1.0)


def line_looks(names: Iterable[str], references: Collection[str] = ()) -> dict[str, Look]:
    """Return a look for each of `names`, which are methods with or without settings and conditions.

    A method has the same colour and marker on every page; its variants differ in dashes. Methods that are not shipped
    take those that their name points to, or the next free ones. `references` are grey and dashed.
    """
    ordered = sorted(set(names))
    contestants = [name for name in ordered if name not in references]
    slots = _slots({method_of(name) for name in contestants})
    looks: dict[str, Look] = {}
    variants: dict[str, int] = {}
    for name in contestants:
        method = method_of(name)
        number = variants[method] = variants.get(method, -1) + 1
        colour, marker = slots[method]
        looks[name] = Look(colour, marker, DASHES[number % len(DASHES)])
    for number, name in enumerate(name for name in ordered if name in references):
        looks[name] = Look(GREY, MARKERS[number % len(MARKERS)], REFERENCE_DASHES)
    return looks


def method_of(name: str) -> str:
    """Return the method that a line or variant is of: its name before settings and conditions."""
    return re.split(r" \(|, ", name, maxsplit=1)[0]


def _slots(methods: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each method. Shipped methods keep theirs, used or not."""
    size, shipped = len(COLOURS), len(METHODS)
    slots = {name: number for number, name in enumerate(METHODS)}
    free = size * len(MARKERS) - shipped
    for name in sorted(set(methods) - set(METHODS)):
        wanted = zlib.crc32(name.encode()) % free
        taken = set(slots.values())
        slots[name] = next(
            (slot for slot in ((wanted + step) % free + shipped for step in range(free)) if slot not in taken),
            wanted + shipped,
        )
    # In each round over the colours, the markers move on by one.
    return {name: (COLOURS[n % size], MARKERS[(n + n // size) % len(MARKERS)]) for name, n in slots.items()}
