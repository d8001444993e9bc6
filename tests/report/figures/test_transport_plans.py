"""Heat maps of transport plans: which plans, in what order, and how much of their mass is on true matches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench import Plan, UserError
from ncbench.evaluation.beliefs import Beliefs
from ncbench.records.arrays import save_beliefs
from ncbench.records.table import load_runs
from ncbench.report.figures import transport_plans
from ncbench.report.figures.transport_plans import RecordedPlan, collect_plans, draw_plans, image_order
from ncbench.report.tables.comparisons import comparisons

Record = Callable[..., Path]

MASS = np.array([[0.1, 0.0, 0.2], [0.0, 0.0, 0.1], [0.2, 0.1, 0.0], [0.0, 0.3, 0.0]])
PLAN = Plan(np.array([5, 3, 4]), np.array([7, 9, 2, 8]), MASS)
TRUE = np.array([2, 8, 6])  # of the captions: in row 2, in row 3, and not there
CLAIMED = np.array([False, True, False])
KNOWN = np.array([True, True, True, True, False, False])  # of all training pairs
SEEN = RecordedPlan("l2rm", "shuffle-images 0.4", PLAN, TRUE, CLAIMED)


def test_mass_on_true_matches() -> None:
    assert np.argwhere(SEEN.matches).tolist() == [[2, 0], [3, 1]]
    assert np.argwhere(SEEN.unclaimed).tolist() == [[2, 0]]  # the other one is claimed
    assert SEEN.mass_on_unclaimed == pytest.approx(0.2)
    assert SEEN.title == (
        "l2rm, shuffle-images 0.4\n2 of 3 captions mismatched, 1 with their image in reach:\n"
        "20.0% of the mass is on these (even spread: 8.3%)"
    )


def test_nothing_moves() -> None:
    still = RecordedPlan("l2rm", "x", Plan(PLAN.captions, PLAN.images, 0 * MASS), TRUE, CLAIMED)
    assert np.isnan(still.mass_on_unclaimed)


def test_true_matches_come_first_in_the_order_of_captions() -> None:
    assert image_order(SEEN).tolist() == [2, 3, 0, 1]


def write(folder: Path, plan: Plan | None, clean: np.ndarray | None = KNOWN) -> None:
    true = None if plan is None else TRUE
    save_beliefs(folder / "beliefs.npz", Beliefs(None, None, None, np.array([], np.int64), plan, clean, true))


def test_plans_of_the_lowest_seed_that_has_one(record: Record, tmp_path: Path) -> None:
    record(method="l2rm", seed=0)  # an older record: no beliefs
    write(record(method="l2rm", seed=1), None)
    write(record(method="l2rm", seed=3), Plan(PLAN.captions, PLAN.images, 2 * MASS))
    write(record(method="l2rm", seed=2), PLAN)
    write(record(method="l2rm", noise=0.2), PLAN)
    write(record(method="natural", noise=0.2), PLAN, clean=None)
    found = collect_plans(comparisons(load_runs(tmp_path)))
    assert [(plan.variant, plan.noise) for plan in found] == [
        ("l2rm", "shuffle-images 0.2"),
        ("l2rm", "shuffle-images 0.4"),
    ]
    np.testing.assert_allclose(found[1].plan.mass, MASS, rtol=1e-6)
    assert found[1].claimed.tolist() == [False, True, False]


def test_a_plan_of_pairs_that_are_not_there(record: Record, tmp_path: Path) -> None:
    write(record(), PLAN, clean=np.array([True, False]))
    with pytest.raises(UserError, match=r"beliefs\.npz: its plan has pairs that do not exist"):
        collect_plans(comparisons(load_runs(tmp_path)))


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    save = transport_plans.save
    monkeypatch.setattr(transport_plans, "save", lambda figure, stem: (seen.append(figure), save(figure, stem))[1])
    files = draw_plans([SEEN] * 4, tmp_path / "plans")
    assert [file.name for file in files] == ["plans.svg", "plans.png"]
    (figure,) = seen
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert len(shown) == 4
    (image,) = shown[0].get_images()
    np.testing.assert_array_equal(image.get_array(), MASS[[2, 3, 0, 1]])
    unclaimed, claimed = (points.get_offsets().tolist() for points in shown[0].collections)
    assert (unclaimed, claimed) == ([[0, 0]], [[1, 1]])  # column, row
    assert draw_plans([SEEN] * 4, tmp_path / "again")[0].read_bytes() == files[0].read_bytes()
