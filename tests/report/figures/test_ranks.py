"""Average ranks: worked examples and published quantiles, and the diagram."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures import ranks as module
from ncbench.report.figures.looks import line_looks
from ncbench.report.figures.ranks import Ranking, critical_difference, draw_ranking, rank_methods
from ncbench.report.tables.leaderboard import leaderboards

Record = Callable[..., Path]


def flat(value: float) -> tuple[float, ...]:
    return (value / 6,) * 6


def ranking(*ranks: float, difference: float, names: Sequence[str] = "abcdefgh") -> Ranking:
    named = dict(zip(names, ranks, strict=False))
    return Ranking(named, 4, difference, line_looks(named))


# Demsar (2006), table 5 (a): q at 0.05 for so many classifiers.
PUBLISHED = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.mark.parametrize(("methods", "q"), PUBLISHED.items())
def test_critical_differences_are_those_of_the_published_quantiles(methods: int, q: float) -> None:
    for cells in (3, 14, 30):
        expected = q * math.sqrt(methods * (methods + 1) / (6 * cells))
        assert critical_difference(methods, cells) == pytest.approx(expected, rel=5e-4)


def test_the_example_of_the_paper() -> None:
    # Section 3.2.2: four classifiers on fourteen data sets, a critical difference of 1.25.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_are_means_over_cells(record: Record, tmp_path: Path) -> None:
    table = {0.2: (300, 200, 100), 0.4: (150, 250, 50), 0.6: (90, 90, 10)}  # ranks 1 2 3, 2 1 3, 1.5 1.5 3
    for noise, scores in table.items():
        for method, score in zip("abc", scores, strict=True):
            record(*flat(score), method=method, noise=noise)
    found = rank_methods(load_runs(tmp_path))
    assert found is not None
    assert found.ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert (found.cells, found.difference) == (3, critical_difference(3, 3))
    assert found.looks == line_looks("abc")


def test_ranks_of_random_scores_are_naive_ones(record: Record, tmp_path: Path) -> None:
    scores = np.random.default_rng(3).integers(100, 110, (5, 6))  # methods, cells; with ties
    for method, row in zip("abcde", scores, strict=True):
        for cell, score in enumerate(row):
            record(*flat(float(score)), method=method, noise=(0.2, 0.4, 0.6)[cell % 3], seed=cell // 3)
    found = rank_methods(load_runs(tmp_path))
    assert found is not None
    for method, row in zip("abcde", scores, strict=True):
        naive = [1 + (scores[:, c] > row[c]).sum() + ((scores[:, c] == row[c]).sum() - 1) / 2 for c in range(6)]
        assert found.ranks[method] == pytest.approx(np.mean(naive))
    assert list(found.ranks.values()) == sorted(found.ranks.values())


def test_cells_are_what_all_have(record: Record, tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [{"noise": 0.2}, {"noise": 0.2, "seed": 1}, {"backbone": "vse"}, {"budget": 8.0}]
    for number, method in enumerate("abc"):
        for cell in cells[: 4 - (number == 2)]:  # c lacks the last one, in which b, last so far, is the best
            record(
                *flat(100.0 - 10 * number + (50 if cell == cells[3] and method == "b" else 0)), method=method, **cell
            )
    found = rank_methods(load_runs(tmp_path))
    assert found is not None
    assert (dict(found.ranks), found.cells) == ({"a": 1.0, "b": 2.0, "c": 3.0}, 3)
    assert "over the 3 cells" in found.caption
    assert f"critical difference of {found.difference:.2f} ranks" in found.caption


@pytest.mark.parametrize(
    ("methods", "ratios", "enough"),
    [("abc", (0.2, 0.4, 0.6), True), ("ab", (0.2, 0.4, 0.6), False), ("abc", (0.2, 0.4), False)],
)
def test_three_methods_and_three_cells_are_needed(
    methods: str, ratios: tuple[float, ...], enough: bool, record: Record, tmp_path: Path
) -> None:
    for noise in ratios:
        for number, method in enumerate(methods):
            record(*flat(100.0 + number), method=method, noise=noise)
    assert (rank_methods(load_runs(tmp_path)) is not None) == enough
    written = write_report(leaderboards(load_runs(tmp_path)), tmp_path / "pages")
    assert ((tmp_path / "pages/toy/figures/ranks.svg") in written) == enough
    assert ("![Average ranks](<figures/ranks.svg>)\n\nAverage rank by rSum of 3" in written[0].read_text()) == enough


@pytest.mark.parametrize("changes", [{"told_truth": True}, {"budget_unit": "own-epochs"}])
def test_references_and_unmatched_runs_have_no_rank(changes: dict[str, Any], record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4, 0.6):
        for number, method in enumerate("abc"):
            record(*flat(100.0 + number), method=method, noise=noise)
        record(*flat(500.0), method="other", noise=noise, **changes)
    found = rank_methods(load_runs(tmp_path))
    assert found is not None
    assert dict(found.ranks) == {"c": 1.0, "b": 2.0, "a": 3.0}


@pytest.mark.parametrize(
    ("ranks", "difference", "groups"),
    [
        ((1.0, 2.0, 3.0), 0.5, []),
        ((1.0, 2.0, 3.0), 1.0, []),  # as far apart as the critical difference is different
        ((1.0, 2.0, 3.0), 1.01, ["ab", "bc"]),
        ((1.0, 2.0, 3.0), 5.0, ["abc"]),
        ((1.0, 1.2, 1.4, 3.0), 0.5, ["abc"]),
        ((1.0, 1.0, 4.0, 4.0), 0.1, ["ab", "cd"]),
    ],
)
def test_groups(ranks: tuple[float, ...], difference: float, groups: list[str]) -> None:
    assert ["".join(group) for group in ranking(*ranks, difference=difference).groups()] == groups


def test_groups_are_the_largest_sets_that_do_not_differ() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = np.sort(rng.uniform(1, 8, 6))
        found = ranking(*ranks, difference=1.5)
        alike = [set(s) for n in range(2, 7) for s in combinations(range(6), n) if ranks[max(s)] - ranks[min(s)] < 1.5]
        largest = [s for s in alike if not any(s < other for other in alike)]
        assert [set(map("abcdef".index, group)) for group in found.groups()] == sorted(largest, key=min)


def test_the_diagram(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "save", lambda figure, *_: seen.append(figure))
    found = ranking(1.25, 2.0, 3.5, 3.75, 4.5, difference=1.0)
    draw_ranking(found, tmp_path / "x")
    (panel,) = seen[0].axes
    lines = {line.get_label(): list(map(float, line.get_xdata())) for line in panel.get_lines()}
    assert {name: lines[name][0] for name in "abcde"} == pytest.approx(dict(found.ranks))
    sides = {name: lines[name][2] < 1 for name in "abcde"}  # the better half has its names on the left
    assert sides == {"a": True, "b": True, "c": True, "d": False, "e": False}
    bars = [list(map(float, line.get_xdata())) for line in panel.get_lines() if line.get_label() == "group"]
    assert [[round(x, 2) for x in bar] for bar in bars] == [[1.21, 2.04], [3.46, 3.79], [3.71, 4.54]]
    texts = [text.get_text() for text in panel.texts]
    assert {"1", "2", "3", "4", "5", " critical difference 1.00", "a  1.25   ", "   4.50  e"} <= set(texts)
    assert {"average rank by rSum, lower is better", "← better", "worse →"} <= set(texts)
    assert "lower is better" in found.caption
    (bar,) = [c for c in panel.containers if c.get_label() == "difference"]
    assert bar.lines[2][0].get_segments()[0][:, 0].tolist() == [1.0, 2.0]


def test_colours_are_those_of_the_page(monkeypatch: pytest.MonkeyPatch, record: Record, tmp_path: Path) -> None:
    for noise in (0.2, 0.4, 0.6):
        for number, method in enumerate("bcd"):
            record(*flat(100.0 + number), method=method, noise=noise)
    record(method="a", told_truth=True)
    seen: list[Any] = []
    monkeypatch.setattr(module, "save", lambda figure, *_: seen.append(figure))
    found = rank_methods(load_runs(tmp_path))
    assert found is not None
    draw_ranking(found, tmp_path / "x")
    colours = {line.get_label(): line.get_color() for line in seen[0].axes[0].get_lines()}
    looks = line_looks("abcd", {"a"})
    assert [colours[name] for name in "bcd"] == [looks[name].colour for name in "bcd"]


def test_the_same_bytes_and_names_as_they_are(tmp_path: Path) -> None:
    names = ["<script>|x", "$x_1$", "100%", "a very long name of a method (cost=complement, given=allowed, mass=1)"]
    found = ranking(1.5, 2.0, 2.5, 4.0, difference=1.2, names=names)
    first, second = draw_ranking(found, tmp_path / "a"), draw_ranking(found, tmp_path / "b")
    assert [path.name for path in first] == ["a.svg", "a.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    text = first[0].read_text()
    assert "<script>" not in text
    words = " ".join(re.findall(r"<text [^>]*>([^<]*)</text>", text))
    for name in names:
        assert name.replace("<", "&lt;").replace(">", "&gt;") in words
