"""Where the mass of a transport plan goes: worked by hand, and against a naive sum."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench import Plan
from ncbench.evaluation.plans import PlanShares, plan_shares

CAPTIONS, IMAGES = np.array([5, 3]), np.array([7, 9, 2])
MASS = np.array([[0.1, 0.2], [0.3, 0.1], [0.2, 0.1]])
TRUE, CLAIMED = np.array([0, 0, 0, 9, 0, 2]), np.array([0, 0, 0, 7, 0, 7])


def closeness(captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """True partners are at 1; image 9 is closer to caption 5 than the claimed image 7, which all others equal."""
    found = np.where(images == TRUE[captions], 1.0, 0.2)
    return np.where((captions == 5) & (images == 9), 0.5, found)


def test_shares() -> None:
    found = plan_shares(Plan(CAPTIONS, IMAGES, MASS), TRUE, CLAIMED, closeness)
    assert found is not None
    assert found.true == pytest.approx(0.2 + 0.1)  # caption 5 to image 2, caption 3 to image 9
    assert found.closer == pytest.approx(0.3)  # caption 5 to image 9
    assert found.even == pytest.approx(2 / 6)
    assert found.within_reach == 1.0


def test_captions_within_reach() -> None:
    found = plan_shares(Plan(CAPTIONS, IMAGES[:2], MASS[:2]), TRUE, CLAIMED, None)  # without image 2, that of caption 5
    assert found is not None
    assert found.within_reach == 0.5


def test_random_plans_by_a_naive_sum() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 3, (12, 8)) / 3
    true, claimed = rng.integers(0, 8, 12), rng.integers(0, 8, 12)
    for _ in range(20):
        plan = Plan(rng.permutation(12)[:5], rng.permutation(8)[:6], rng.random((6, 5)))
        found = plan_shares(plan, true, claimed, lambda captions, images: table[captions, images])
        sums = {"true": 0.0, "closer": 0.0}
        for row, image in enumerate(plan.images):
            for column, caption in enumerate(plan.captions):
                if true[caption] == image:
                    sums["true"] += plan.mass[row, column]
                elif table[caption, image] > table[caption, claimed[caption]]:
                    sums["closer"] += plan.mass[row, column]
        assert found is not None
        assert found.true == pytest.approx(sums["true"] / plan.mass.sum())
        assert found.closer == pytest.approx(sums["closer"] / plan.mass.sum())


def test_unknown_meanings() -> None:
    found = plan_shares(Plan(CAPTIONS, IMAGES, MASS), TRUE, CLAIMED, None)
    assert found == PlanShares(pytest.approx(0.3), None, pytest.approx(1 / 3), 1.0)


def test_a_plan_without_mass() -> None:
    assert plan_shares(Plan(CAPTIONS, IMAGES, 0 * MASS), TRUE, CLAIMED, closeness) is None
