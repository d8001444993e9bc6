"""Pairs that a method is told are clean: how they are drawn, who gets them, and what the record says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import Source
from toy_methods import Toy

from ncbench import Task, UserError, setting
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.records.record import Record
from ncbench.records.result import Judgement, Result
from ncbench.records.store import Store
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep
from ncbench.training.clean_pairs import clean_pairs, draw_clean_pairs
from ncbench.training.numbering import Numbering

CLEAN = np.arange(40) % 4 > 0


def test_told_pairs_are_clean_ascending_and_different() -> None:
    told = draw_clean_pairs("m", 12, CLEAN, 0)
    assert told.dtype == np.int64
    assert len(told) == 12
    assert CLEAN[told].all()
    assert (np.diff(told) > 0).all()


def test_told_pairs_follow_from_seed_and_noise() -> None:
    told = draw_clean_pairs("m", 12, CLEAN, 0)
    np.testing.assert_array_equal(draw_clean_pairs("other", 12, CLEAN, 0), told)
    assert set(told) < set(draw_clean_pairs("m", 20, CLEAN, 0))
    assert set(told) != set(draw_clean_pairs("m", 12, CLEAN, 1))
    seen = np.concatenate([draw_clean_pairs("m", 3, CLEAN, seed) for seed in range(100)])
    assert set(seen) == set(np.flatnonzero(CLEAN))


def test_all_clean_pairs_can_be_told_and_no_more() -> None:
    np.testing.assert_array_equal(draw_clean_pairs("m", 30, CLEAN, 3), np.flatnonzero(CLEAN))
    np.testing.assert_array_equal(clean_pairs("m", 30, CLEAN), np.flatnonzero(CLEAN))
    with pytest.raises(UserError, match=r"^m needs 31 clean pairs, but only 30 of 40 pairs are clean\. Lower --noise"):
        draw_clean_pairs("m", 31, CLEAN, 3)


def test_without_ground_truth() -> None:
    with pytest.raises(UserError, match=r"^m needs 1 clean pairs, but this dataset has no ground truth"):
        clean_pairs("m", 1, None)


class Informed(Toy):
    """Needs some clean pairs; believes in a fixed order of all."""

    name = "informed"
    tasks: list[Task] = []

    @dataclass(frozen=True)
    class Config:
        batch_size: int = setting(8, "pairs", "here")
        need: int = setting(6, "clean pairs", "here")

    def clean_pairs_needed(self, pairs: int) -> int:
        assert pairs == 48
        return self.config.need

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.tasks.append(task)

    def pair_scores(self) -> np.ndarray:
        return np.linspace(0, 1, len(self.task.data))


GRID = Grid(
    datasets=["tiny"],
    protocols=["shuffle-captions"],
    ratios=[0.4],
    methods=["informed"],
    backbones=["vse"],
    budgets=[Budget(0.3)],
    seeds=[0],
)


@pytest.fixture(autouse=True)
def plugins(register: Callable[..., None], tiny: Dataset, make_dataset: Callable[..., Dataset]) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.datasets", "natural", Source(make_dataset(name="natural", truth_known=False)))
    for method in (Toy, Informed):
        register("ncbench.methods", method.name, method)
    Informed.tasks.clear()


def run(folder: Path, **changes: Any) -> tuple[PlannedRun, Result]:
    (planned,) = plan_sweep(replace(GRID, **changes))
    outcome = execute(planned, Store(folder), torch.device("cpu"), lambda _: None)
    assert outcome.result is not None, outcome.error
    return planned, outcome.result


def test_a_run_tells_and_says_so(tiny: Dataset, tmp_path: Path) -> None:
    planned, result = run(tmp_path)
    assert (result.clean_pairs_given, result.sees_truth) == (6, False)
    clean = planned.noise.clean(tiny.splits["train"].true)
    (task,) = Informed.tasks
    assert task.truth is None
    numbering = Numbering.draw(48, 24, 0, planned.spec.noise_digest)
    np.testing.assert_array_equal(task.clean, draw_clean_pairs("informed", 6, numbering.shown(clean), 0))
    given = np.sort(numbering.captions[task.clean])
    assert clean[given].all()
    np.testing.assert_array_equal(Record(Store(tmp_path).folder(planned.spec)).beliefs.given_clean, given)
    others = np.setdiff1d(np.arange(48), given)
    expected = detect(numbering.restored(np.linspace(0, 1, 48))[others], clean[others])
    assert result.beliefs.detection == expected
    assert expected.pairs == 42


def test_members_of_an_ensemble_are_told_the_same(tmp_path: Path) -> None:
    _, result = run(tmp_path, backbones=["sgraf"])
    one, other = Informed.tasks
    np.testing.assert_array_equal(one.clean, other.clean)
    assert result.clean_pairs_given == 6


def test_others_are_told_nothing(tmp_path: Path) -> None:
    _, result = run(tmp_path, methods=["toy"])
    assert (result.clean_pairs_given, result.beliefs) == (0, Judgement())


@pytest.mark.parametrize(("need", "message"), [(30, "only 29 of 48 pairs are clean"), (29, None)])
def test_a_sweep_checks_before_any_work(need: int, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Informed, "clean_pairs_needed", lambda self, pairs: need)
    if message is None:
        assert len(plan_sweep(GRID)) == 1
        return
    with pytest.raises(UserError, match=f"^informed needs 30 clean pairs, but {message}. Lower --noise"):
        plan_sweep(GRID)


def test_a_sweep_refuses_datasets_without_ground_truth() -> None:
    natural = replace(GRID, datasets=["natural"], ratios=["natural"])
    with pytest.raises(UserError, match=r"^informed needs 6 clean pairs, but this dataset has no ground truth"):
        plan_sweep(natural)
    assert len(plan_sweep(replace(natural, methods=["toy"]))) == 1


def test_mscn_is_refused_where_a_backbone_has_no_vector_of_a_pair() -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(replace(GRID, methods=["mscn"], backbones=["scan"]))
    assert "mscn cannot train scan-t2i-lse" in str(caught.value)
    assert "use saf, sgr, sgraf, vse, vse-infinity" in str(caught.value)
