"""The figure of beliefs: counts, bins and titles follow from the pairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.evaluation.beliefs import Beliefs, detect
from ncbench.records.arrays import save_beliefs
from ncbench.records.table import load_runs
from ncbench.report.figures import beliefs
from ncbench.report.figures.beliefs import StatedBeliefs, collect_beliefs, draw_beliefs, draw_beliefs_by_variant
from ncbench.report.tables.comparisons import comparisons

P_CLEAN = np.array([0.02, 0.5, 0.98, 1.0, 0.03, 0.5])
CLEAN = np.array([False, True, True, True, False, False])


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that draws beliefs and returns matplotlib's Figure."""
    seen: list[Any] = []
    monkeypatch.setattr(beliefs, "save", lambda figure, *_: seen.append(figure))

    def drawn(p_clean: np.ndarray = P_CLEAN, clean: np.ndarray = CLEAN) -> Any:
        draw_beliefs(p_clean, clean, "a run", tmp_path / "x")
        return seen[-1]

    return drawn


def test_histograms(draw: Callable[..., Any]) -> None:
    panel, _ = draw().axes
    stairs = {patch.get_label(): patch.get_data().values.tolist() for patch in panel.patches}
    third = 1 / 3
    assert stairs == {
        "clean": pytest.approx([0] * 7 + [third] + [0] * 6 + [2 * third]),
        "mismatched": pytest.approx([2 * third] + [0] * 6 + [third] + [0] * 7),
    }
    assert panel.get_title(loc="left") == f"AUC {detect(P_CLEAN, CLEAN).auc:.3f}" == "AUC 0.944"


def test_reliability(draw: Callable[..., Any]) -> None:
    _, panel = draw().axes
    diagonal, line = panel.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(line.get_xydata(), [[0.025, 0], [0.5, 0.5], [0.99, 1]])
    assert panel.get_title(loc="left") == "calibration error 0.012"  # (2 x 0.025 + 2 x 0 + 2 x 0.01) / 6


def test_one_kind_of_pairs_has_no_auc(draw: Callable[..., Any]) -> None:
    assert draw(clean=np.ones(6, bool)).axes[0].get_title(loc="left") == "no AUC, pairs of one kind"


@pytest.mark.parametrize("title", ["<script>", "$x_1$ on {}"])
def test_files(title: str, tmp_path: Path) -> None:
    first, second = (draw_beliefs(P_CLEAN, CLEAN, title, tmp_path / name / "x.y") for name in "ab")
    assert [path.name for path in first] == ["x.y.svg", "x.y.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    words = re.findall(r"<text [^>]*>([^<]*)</text>", first[0].read_text())
    assert title.replace("<", "&lt;").replace(">", "&gt;") in words
    assert "<script>" not in first[0].read_text()


def test_beliefs_of_all_seeds_of_a_variant(record: Callable[..., Path], tmp_path: Path) -> None:
    def write(folder: Path, p_clean: np.ndarray | None, clean: np.ndarray | None, given: list[int]) -> None:
        save_beliefs(folder / "beliefs.npz", Beliefs(p_clean, None, None, np.array(given, np.int64), None, clean))

    write(record(method="ncr", seed=0), P_CLEAN, CLEAN, [])
    write(record(method="ncr", seed=1), P_CLEAN[::-1], CLEAN[::-1], [0, 5])
    record(method="ncr", seed=2)  # an older record
    write(record(method="bicro"), 1 - P_CLEAN, CLEAN, [])
    write(record(method="triplet"), None, CLEAN, [])
    write(record(method="natural"), P_CLEAN, None, [])
    (table,) = comparisons(load_runs(tmp_path))
    found = collect_beliefs(table)
    assert set(found) == {"bicro", "ncr"}
    assert (found["ncr"].seeds, found["ncr"].silent, found["ncr"].given) == ((0, 1), (2,), 2)
    assert found["ncr"].note.splitlines() == [
        "6 clean, 4 mismatched",
        "2 seeds",
        "no P(clean): seed 2",
        "2 given as clean left out",
    ]
    assert found["bicro"].note.splitlines() == ["3 clean, 3 mismatched", "1 seed"]
    expected = [*zip(P_CLEAN, CLEAN, strict=True), *zip(P_CLEAN[1:5], CLEAN[1:5], strict=True)]
    assert sorted(
        (round(p, 6), is_clean) for p, is_clean in zip(found["ncr"].p_clean, found["ncr"].clean, strict=True)
    ) == sorted(expected)


def test_a_panel_of_each_kind_per_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(beliefs, "save", lambda figure, *_: seen.append(figure))
    stated = StatedBeliefs(P_CLEAN, CLEAN, silent=(1, 4))
    draw_beliefs_by_variant({f"m{n}": stated for n in range(5)}, "noise", tmp_path / "x")
    panels = [panel for panel in seen[0].axes if panel.get_visible()]
    auc = f"AUC {detect(P_CLEAN, CLEAN).auc:.3f}"
    assert [title for panel in panels if (title := panel.get_title(loc="left"))] == [f"m{n}: {auc}" for n in range(5)]
    words = [text.get_text() for panel in panels for text in panel.texts]
    assert words.count("calibration error 0.012") == 5
    assert sum("no P(clean): seed 1, 4" in text for text in words) == 5
    (legend,) = seen[0].legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["clean pairs", "mismatched pairs"]
    assert all(panel.get_legend() is None for panel in panels)
