"""Figures: a panel per protocol, a line per method, bands over seeds."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from ncbench.records.table import load_runs
from ncbench.report.figures import noise_curves
from ncbench.report.figures.looks import GREY

Record = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a function that draws the records in tmp_path and returns matplotlib's Figure."""
    seen: list[Any] = []
    monkeypatch.setattr(noise_curves, "save", lambda figure, *_: seen.append(figure))  # drawing takes most of the time

    def drawn() -> Any:
        noise_curves.draw_noise_curves(load_runs(tmp_path), tmp_path / "figure")
        return seen[-1]

    return drawn


def flat(value: float) -> tuple[float, ...]:
    return (value / 6,) * 6


def lines(panel: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return the lines of a panel: name, ratios, rSums."""
    return {
        line.get_label(): ([float(x) for x in line.get_xdata()], [round(float(y), 6) for y in line.get_ydata()])
        for line in panel.get_lines()
    }


def test_panel_per_protocol_and_line_per_method(record: Record, draw: Callable[[], Any]) -> None:
    for method, base in (("triplet", 300.0), ("l2rm", 330.0)):
        record(*flat(base), method=method, noise=0.0, protocol="clean", unit="clean")
        for noise in (0.4, 0.2):
            record(*flat(base - 100 * noise), method=method, noise=noise)
        record(*flat(base - 90), method=method, noise=0.6, protocol="shuffle-captions", unit="captions")
    images, captions = draw().axes  # the one with more ratios first
    assert [images.get_title(loc="left"), captions.get_title(loc="left")] == ["shuffle-images", "shuffle-captions"]
    assert lines(images) == {
        "triplet": ([0.0, 0.2, 0.4], [300.0, 280.0, 260.0]),
        "l2rm": ([0.0, 0.2, 0.4], [330.0, 310.0, 290.0]),
    }
    assert lines(captions) == {"triplet": ([0.0, 0.6], [300.0, 210.0]), "l2rm": ([0.0, 0.6], [330.0, 240.0])}


def test_clean_runs_alone_have_a_panel(record: Record, draw: Callable[[], Any]) -> None:
    record(*flat(300.0), noise=0.0, protocol="clean", unit="clean")
    (panel,) = draw().axes
    assert panel.get_title(loc="left") == "clean"
    assert lines(panel) == {"triplet": ([0.0], [300.0])}


def test_a_line_without_runs_of_a_protocol_is_not_in_its_panel(record: Record, draw: Callable[[], Any]) -> None:
    for method in ("triplet", "l2rm", "clean_only"):
        record(*flat(300.0), method=method, noise=0.0, protocol="clean", unit="clean")
    for method in ("triplet", "l2rm"):
        record(*flat(200.0), method=method, noise=0.4)
    record(*flat(250.0), method="triplet", noise=0.4, protocol="shuffle-captions", unit="captions")
    captions, images = draw().axes
    assert set(lines(images)) == {"triplet", "l2rm", "clean_only"}
    assert set(lines(captions)) == {"triplet", "clean_only"}


def test_lines_are_means_and_bands_are_deviations(record: Record, draw: Callable[[], Any]) -> None:
    for seed, value in enumerate((100.0, 110.0, 120.0)):
        record(*flat(value), seed=seed)
    record(*flat(50.0), noise=0.6)
    (panel,) = draw().axes
    assert lines(panel) == {"triplet": ([0.4, 0.6], [110.0, 50.0])}
    band = panel.collections[0]
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(0.4, 100.0), (0.4, 120.0), (0.6, 50.0)} == corners


def test_colours_and_markers_are_those_of_the_method_in_every_panel(record: Record, draw: Callable[[], Any]) -> None:
    record(method="a")
    record(method="b", protocol="shuffle-captions", unit="captions")
    record(method="b")
    record(method="c", protocol="shuffle-captions", unit="captions")
    captions, images = (
        {line.get_label(): (line.get_color(), line.get_marker()) for line in p.get_lines()} for p in draw().axes
    )
    assert captions["b"] == images["b"]
    assert len({*captions.values(), *images.values()}) == 3


def test_references_are_grey_and_dashed(record: Record, draw: Callable[[], Any]) -> None:
    record()
    record(method="oracle", told_truth=True)
    (panel,) = draw().axes
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in panel.get_lines()}
    assert looks["oracle"] == (GREY, "--")
    assert looks["triplet"][0] != GREY
    assert looks["triplet"][1] == "-"


def test_labels_are_in_the_order_of_the_last_points_and_do_not_overlap(record: Record, draw: Callable[[], Any]) -> None:
    for number in range(12):
        record(*flat(200.0), method=f"m{number:02d}", noise=0.2)
        record(*flat(100.0 - number), method=f"m{number:02d}", noise=0.4)
    figure = draw()
    (panel,) = figure.axes
    named = [text for text in panel.texts if text.get_text()]
    labels = {text.get_text(): text.xyann[1] for text in named}
    assert sorted(labels, key=labels.__getitem__, reverse=True) == [f"m{number:02d}" for number in range(12)]
    figure.draw_without_rendering()
    boxes = sorted(tuple(Text.get_window_extent(text).intervaly) for text in named)
    assert all(upper[0] > lower[1] - 1 for lower, upper in pairwise(boxes))


def test_many_lines_can_be_told_apart(record: Record, draw: Callable[[], Any]) -> None:
    for number in range(12):
        record(*flat(100.0 + number), method=f"m{number:02d}")
    (panel,) = draw().axes
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in panel.get_lines()]
    assert len(set(looks)) == 12


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["triplet"]),
        ({"backbone": "vse"}, ["triplet, sgr", "triplet, vse"]),
        ({"budget": 8.0}, ["triplet, budget 4", "triplet, budget 8"]),
        ({"backbone": "vse", "budget": 8.0}, ["triplet, sgr, budget 4", "triplet, vse, budget 8"]),
        ({"settings": {"lr": 0.5, "batch_size": 8}}, ["triplet (lr=0.002)", "triplet (lr=0.5)"]),
    ],
)
def test_what_lines_are_called(
    changes: dict[str, Any], names: list[str], record: Record, draw: Callable[[], Any]
) -> None:
    record()
    record(seed=1, **changes)
    figure = draw()
    assert sorted(lines(figure.axes[0])) == names
    assert sorted(filter(None, (text.get_text() for text in figure.axes[0].texts))) == names


def test_axes_have_names_and_begin_at_zero(record: Record, draw: Callable[[], Any]) -> None:
    record()
    record(protocol="shuffle-captions", unit="captions")
    first, second = draw().axes
    assert first.get_ylabel() == "rSum on test (of 600)"
    assert {first.get_xlabel(), second.get_xlabel()} == {"noise ratio (share of mismatched pairs)"}
    assert first.get_ylim()[0] == second.get_ylim()[0] == 0
    assert first.get_ylim() == second.get_ylim()


def test_files(record: Record, tmp_path: Path) -> None:
    record()
    record(method="l2rm")
    svg, png = noise_curves.draw_noise_curves(load_runs(tmp_path), tmp_path / "some.name")
    assert (svg, png) == (tmp_path / "some.name.svg", tmp_path / "some.name.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    words = re.findall(r"<text [^>]*>([^<]*)</text>", text)
    assert {"shuffle-images", "triplet", "l2rm", "rSum on test (of 600)"} <= set(words)
    assert "<dc:date>" not in text


@pytest.mark.parametrize("name", ["<script>|x", "a$x$b", "a$", "100%"])
def test_odd_names_are_drawn_as_they_are(name: str, record: Record, tmp_path: Path) -> None:
    record(method="odd")
    frame = load_runs(tmp_path).assign(variant=name)
    svg, _ = noise_curves.draw_noise_curves(frame, tmp_path / "odd")
    assert "<script>" not in svg.read_text()
    words = re.findall(r"<text [^>]*>([^<]*)</text>", svg.read_text())
    assert name.replace("<", "&lt;").replace(">", "&gt;") in words


def test_among_many_lines_the_two_best_and_references_have_bars(record: Record, draw: Callable[[], Any]) -> None:
    for number, method in enumerate("abcd"):
        for seed in (0, 1):
            record(*flat(100.0 * (number + 1) + seed), method=method, seed=seed)
    for seed in (0, 1):
        record(*flat(550.0 + seed), method="oracle", told_truth=True, seed=seed)
    (panel,) = draw().axes
    bars = [each for each in panel.collections if type(each).__name__ == "LineCollection"]
    assert sorted(round(float(bar.get_segments()[0].mean(axis=0)[1]), 1) for bar in bars) == [300.5, 400.5, 550.5]


def test_a_panel_per_method(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(noise_curves, "save", lambda figure, stem: seen.append(figure) or [stem])
    for number, method in enumerate("abc"):
        for noise in (0.2, 0.4):
            record(*flat(100.0 + number), method=method, noise=noise)
    stem = tmp_path / "x"
    assert noise_curves.draw_curves_by_method(load_runs(tmp_path), stem) == []  # the other figure shows three well
    for noise in (0.2, 0.4):
        record(*flat(500.0), method="oracle", told_truth=True, noise=noise)
    assert noise_curves.draw_curves_by_method(load_runs(tmp_path), stem) == [stem]
    shown = [panel for panel in seen[0].axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in shown] == ["c", "b", "a", "oracle"]  # best first
    for panel in shown:
        named = [line for line in panel.get_lines() if not line.get_label().startswith("_")]
        assert [line.get_label() for line in named] == [panel.get_title(loc="left")]
        assert len(panel.get_lines()) == 5  # four in grey and the one
    assert len({panel.get_ylim() for panel in shown}) == 1
