"""Beliefs on disk: what is written is read back, and what is no such file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncbench import Plan, Rematches, UserError
from ncbench.evaluation.beliefs import Beliefs
from ncbench.records.arrays import load_beliefs, save_beliefs

TOLD = np.array([3, 5])
REMATCHES = Rematches(np.array([4, 2]), np.array([1, 0]), np.array([0.5, 1.0]))

PLAN = Plan(np.array([4, 2]), np.array([1, 0, 6]), np.array([[0.5, 0], [0.25, 0.25], [0, 0]]))
PLAN_ARRAYS = {"plan": PLAN.mass, "plan_captions": PLAN.captions, "plan_images": PLAN.images}


def test_plans_and_the_truth_are_read_back(tmp_path: Path) -> None:
    clean, true = np.array([True, False]), np.array([6, 7])
    save_beliefs(tmp_path / "beliefs.npz", Beliefs(None, None, None, TOLD, PLAN, clean, true))
    found = load_beliefs(tmp_path / "beliefs.npz")
    assert found.plan is not None
    for name, values in vars(PLAN).items():
        np.testing.assert_array_equal(getattr(found.plan, name), values)
        assert getattr(found.plan, name).dtype == values.dtype
    np.testing.assert_array_equal(found.clean, clean)
    np.testing.assert_array_equal(found.true_images, true)


@pytest.mark.parametrize("p_clean", [None, np.array([0.25, 0.5, 1.0])])
@pytest.mark.parametrize("soft_labels", [None, np.array([0.0, 0.75, 0.5])])
@pytest.mark.parametrize("rematches", [None, REMATCHES])
def test_beliefs_are_read_back(
    p_clean: np.ndarray | None, soft_labels: np.ndarray | None, rematches: Rematches | None, tmp_path: Path
) -> None:
    save_beliefs(tmp_path / "beliefs.npz", Beliefs(p_clean, soft_labels, rematches, TOLD))
    found = load_beliefs(tmp_path / "beliefs.npz")
    for name, given in (("p_clean", p_clean), ("soft_labels", soft_labels), ("told", TOLD)):
        np.testing.assert_array_equal(getattr(found, name), given)
    assert (found.rematches is None) == (rematches is None)
    if rematches is not None and found.rematches is not None:
        for name, values in vars(rematches).items():
            np.testing.assert_array_equal(getattr(found.rematches, name), values)
            assert getattr(found.rematches, name).dtype == values.dtype


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({}, "told"),
        ({"colour": np.zeros(2), "told": TOLD}, "colour"),
        ({"p_clean": np.zeros((2, 2)), "told": TOLD}, "p_clean has 2 dimensions of float64"),
        ({"p_clean": np.zeros(2, int), "told": TOLD}, "p_clean has 1 dimensions of int64"),
        ({"clean": np.zeros(2), "told": TOLD}, "clean has 1 dimensions of float64"),
        ({"plan": np.zeros(2), "told": TOLD}, "plan has 1 dimensions of float64"),
        ({"plan": np.zeros((2, 2)), "told": TOLD}, "the plan: incomplete"),
        (
            {"plan": np.zeros((2, 3)), "plan_captions": TOLD, "plan_images": TOLD, "told": TOLD},
            r"the plan of 2 images and 2 captions has shape \(2, 3\)",
        ),
        (
            {**PLAN_ARRAYS, "plan_true": np.array([1]), "told": TOLD},
            r"the plan of 3 images and 2 captions has shape \(3, 2\)",
        ),
        ({"p_clean": np.array([0.5, np.nan]), "told": TOLD}, "p_clean has values that are negative or not finite"),
        ({"told": np.array([-1])}, "told has values that are negative or not finite"),
        ({"told": np.array([None])}, "pickle"),
        ({"rematch_images": TOLD, "told": TOLD}, "rematches: incomplete"),
    ],
)
def test_files_that_hold_something_else(arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "beliefs.npz", **arrays)
    with pytest.raises(UserError, match=f"beliefs.npz: cannot be read as beliefs .*{complaint}"):
        load_beliefs(tmp_path / "beliefs.npz")


def test_a_file_that_is_damaged_or_missing(tmp_path: Path) -> None:
    for content in (None, b"", b"PK\x03\x04"):
        if content is not None:
            (tmp_path / "beliefs.npz").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as beliefs"):
            load_beliefs(tmp_path / "beliefs.npz")


def test_any_byte_may_be_damaged(tmp_path: Path) -> None:
    path, rng = tmp_path / "beliefs.npz", np.random.default_rng(0)
    save_beliefs(path, Beliefs(rng.random(500), None, REMATCHES, TOLD))
    good, refused = path.read_bytes(), 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ rng.integers(1, 256)]) + good[place + 1 :])
        try:
            load_beliefs(path)
        except UserError:
            refused += 1
    assert refused > len(good) / 2
