"""Where the mass of transport plans goes during training: what is read from histories, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.evaluation.plans import PlanShares
from ncbench.evaluation.retrieval import Recalls
from ncbench.records.history import History, HistoryLine
from ncbench.records.result import Scores
from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures import transport_plans
from ncbench.report.figures.transport_plans import draw_plans, load_plan_shares
from ncbench.report.tables.leaderboard import leaderboards

Record = Callable[..., Path]
SIDE = Recalls(10.0, 20.0, 30.0, 4.0, 5.5)


def tell(folder: Path, *plans: PlanShares | None, member: str = "sgr") -> None:
    """Write a history with an evaluation per plan, at 250 FLOPs each: an epoch of records made by hand."""
    history = History(folder / "history.jsonl")
    path = folder / "history.jsonl"
    history.lines = path.read_text().splitlines() if path.exists() else []
    for number, plan in enumerate(plans, 1):
        facts = {"backbone": member, "share": number / 4, "work": 250 * number, "updates": 1, "seconds": 1.0}
        history.add(HistoryLine(**facts, loss=None, dev=Scores(SIDE, SIDE, 120.0), plan=plan))


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    seen: list[Any] = []
    monkeypatch.setattr(transport_plans, "save", lambda figure, *_: seen.append(figure))

    def drawn() -> Any:
        runs = load_runs(tmp_path)
        draw_plans(runs, load_plan_shares(runs), tmp_path / "x")
        return seen[-1]

    return drawn


def tops(panel: Any) -> list[list[float]]:
    """Return the upper edge of each layer of a panel, at its evaluations."""
    return [
        [
            round(max(y for x, y in layer.get_paths()[0].vertices if x == at), 6)
            for at in panel.get_lines()[0].get_xdata()
        ]
        for layer in panel.collections
    ]


def test_a_row_per_evaluation_with_a_plan(record: Record, tmp_path: Path) -> None:
    folder = record(backbone="sgraf")
    tell(folder, None, PlanShares(0.1, 0.2, 0.05), PlanShares(0.3, None, 0.05))
    tell(folder, PlanShares(0.9, 0.0, 0.9), member="saf")
    record(method="l2rm")
    rows = load_plan_shares(load_runs(tmp_path))
    assert rows[["evaluation", "work", "true", "even"]].to_numpy().tolist() == [
        [1, 500, 0.1, 0.05],
        [2, 750, 0.3, 0.05],
    ]
    np.testing.assert_array_equal(rows["closer"], [0.2, np.nan])


def test_layers_are_means_over_seeds(record: Record, draw: Callable[[], Any]) -> None:
    tell(record(), PlanShares(0.1, 0.3, 0.02), PlanShares(0.2, 0.4, 0.02))
    tell(record(seed=1), PlanShares(0.3, 0.3, 0.04), PlanShares(0.4, 0.2, 0.04))
    figure = draw()
    (panel,) = figure.axes
    assert panel.get_title(loc="left") == "triplet, shuffle-images 0.4"
    assert tops(panel) == [[0.2, 0.3], [0.5, 0.6], [1.0, 1.0]]
    (even,) = panel.get_lines()
    assert even.get_xydata().tolist() == [[1.0, pytest.approx(0.03)], [2.0, pytest.approx(0.03)]]
    (legend,) = figure.legends
    names = ["true partner", "closer than claimed", "not closer", "even spread"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_where_meanings_are_unknown_there_are_two_layers(record: Record, draw: Callable[[], Any]) -> None:
    tell(record(), PlanShares(0.25, None, 0.02), PlanShares(0.5, None, 0.02))
    figure = draw()
    assert tops(figure.axes[0]) == [[0.25, 0.5], [1.0, 1.0]]
    assert "not the true partner" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_single_evaluation_is_a_bar(record: Record, draw: Callable[[], Any]) -> None:
    tell(record(), PlanShares(0.25, 0.25, 0.02))
    heights = [bar.get_height() for bar in draw().axes[0].patches]
    assert heights == pytest.approx([0.25, 0.25, 0.5])


def test_reports_have_it_where_histories_do(record: Record, tmp_path: Path) -> None:
    tell(record(), PlanShares(0.25, 0.25, 0.02), PlanShares(0.3, 0.25, 0.02))
    first, second = (write_report(leaderboards(load_runs(tmp_path)), tmp_path / name) for name in ("a", "b"))
    plans = [path for path in first if path.name.startswith("transport-plans")]
    assert [path.suffix for path in plans] == [".svg", ".png"]
    same = [path for path in second if path.name == "transport-plans.svg"]
    assert plans[0].read_bytes() == same[0].read_bytes()
    assert "![Where transport plans put their mass]" in (tmp_path / "a/toy/README.md").read_text()
