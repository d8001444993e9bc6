"""Colours and markers: fixed for every method, and distinct to everybody who reads them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from ncbench.method.registry import load_method, method_names
from ncbench.report.figures.looks import (
    COLOURS,
    DARK,
    DASHES,
    GREY,
    MARKERS,
    METHODS,
    PAPER,
    line_looks,
    method_of,
)

# Machado, Oliveira and Fernandes (2009), severity 1.0, applied to linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# IEC 61966-2-1: linear sRGB to CIE XYZ under D65.
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
LEAST_DIFFERENCE = 10  # in CIE 1976 L*a*b*, where about 2 are just noticeable
LEAST_CONTRAST = 3  # of graphics to their ground, WCAG 2.2

Floats = NDArray[np.float64]


def linear(colour: str) -> Floats:
    encoded = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def lab(light: Floats) -> Floats:
    x, y, z = XYZ @ light / XYZ.sum(1)
    fx, fy, fz = (np.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def contrast(one: str, other: str) -> float:
    high, low = sorted((float(XYZ[1] @ linear(colour)) + 0.05 for colour in (one, other)), reverse=True)
    return high / low


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("ground", ["light", "dark"])
def test_methods_differ_in_colour_however_it_is_seen(ground: str, vision: str) -> None:
    shown = [colour if ground == "light" else DARK[colour] for colour in COLOURS]
    seen = [lab(np.clip(VISIONS[vision] @ linear(colour), 0, 1)) for colour in shown]
    for (one, a), (other, b) in combinations(zip(METHODS, seen, strict=True), 2):
        assert np.linalg.norm(a - b) >= LEAST_DIFFERENCE, f"{one} and {other} look alike"


def test_every_shipped_contestant_has_a_colour_and_a_marker_of_its_own() -> None:
    assert sorted(METHODS) == sorted(name for name in method_names() if not load_method(name).needs_truth)
    assert len(COLOURS) == len(MARKERS) == len(METHODS)


def test_in_grey_print_markers_tell_methods_apart() -> None:
    looks = line_looks(METHODS)
    assert len({look.marker for look in looks.values()}) == len(METHODS)
    assert {look.dashes for look in looks.values()} == {"-"}


@pytest.mark.parametrize("colour", [*COLOURS, GREY])
def test_contrast_to_the_ground(colour: str) -> None:
    assert contrast(colour, PAPER) >= LEAST_CONTRAST
    assert contrast(DARK[colour], DARK[PAPER]) >= LEAST_CONTRAST


def test_shipped_methods_look_the_same_on_every_page() -> None:
    everything, some = line_looks([*METHODS, "mine"]), line_looks(["bicro", "l2rm", "mine"])
    assert {name: everything[name] for name in some} == some
    assert len({(look.colour, look.marker) for look in everything.values()}) == len(METHODS) + 1


def test_other_methods_look_the_same_on_every_page_and_like_no_other() -> None:
    names = [f"method{number}" for number in range(60)]
    looks = line_looks([*names, *METHODS])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 60 + len(METHODS)
    alone = {name: line_looks([name])[name] for name in names}
    kept = sum(alone[name] == looks[name] for name in names)
    assert kept > 35  # of names that point to one look, the first has it; the others move on


def test_more_methods_than_looks() -> None:
    looks = line_looks(f"m{number}" for number in range(len(COLOURS) * len(MARKERS) + 5))
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(COLOURS) * len(MARKERS) - len(METHODS)


def test_variants_share_colour_and_marker_and_differ_in_dashes() -> None:
    names = ["l2rm", "l2rm (cost=complement)", "l2rm, vse", "l2rm, vse, budget 4"]
    looks = line_looks([*names, "ncr"])
    assert {(looks[name].colour, looks[name].marker) for name in names} == {(COLOURS[0], MARKERS[0])}
    assert {str(looks[name].dashes) for name in names} == {str(dashes) for dashes in DASHES[:4]}
    assert [method_of(name) for name in names] == ["l2rm"] * 4


def test_references_are_grey_and_dashed() -> None:
    looks = line_looks(["oracle", "other", "bicro"], {"oracle", "other"})
    assert {looks[name].colour for name in ("oracle", "other")} == {GREY}
    assert {looks[name].dashes for name in ("oracle", "other")} == {"--"}
    assert looks["oracle"].marker != looks["other"].marker
    assert GREY not in COLOURS
