"""The figure of beliefs: counts, bins and titles follow from the pairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.evaluation import detect
from ncbench.report import beliefs
from ncbench.report.beliefs import draw_beliefs

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
    assert stairs == {
        "clean (3)": [0] * 7 + [1] + [0] * 6 + [2],
        "mismatched (3)": [2] + [0] * 6 + [1] + [0] * 7,
    }
    assert panel.get_title() == f"AUC {detect(P_CLEAN, CLEAN).auc:.3f}" == "AUC 0.944"


def test_reliability(draw: Callable[..., Any]) -> None:
    _, panel = draw().axes
    diagonal, line = panel.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(line.get_xydata(), [[0.025, 0], [0.5, 0.5], [0.99, 1]])
    assert panel.get_title() == "calibration error 0.012"  # (2 x 0.025 + 2 x 0 + 2 x 0.01) / 6


def test_one_kind_of_pairs_has_no_auc(draw: Callable[..., Any]) -> None:
    assert draw(clean=np.ones(6, bool)).axes[0].get_title() == "AUC: needs both kinds of pairs"


@pytest.mark.parametrize("title", ["<script>", "$x_1$ on {}"])
def test_files(title: str, tmp_path: Path) -> None:
    first, second = (draw_beliefs(P_CLEAN, CLEAN, title, tmp_path / name / "x.y") for name in "ab")
    assert [path.name for path in first] == ["x.y.svg", "x.y.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    words = re.findall(r"<text [^>]*>([^<]*)</text>", first[0].read_text())
    assert title.replace("<", "&lt;").replace(">", "&gt;") in words
    assert "<script>" not in first[0].read_text()
