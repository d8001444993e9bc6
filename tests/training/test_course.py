"""Beliefs and plans judged while a run trains: in the numbers of the dataset, and without a trace in training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runs import prepare_run
from torch import nn

from ncbench import Plan, UserError
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.evaluation.plans import plan_shares
from ncbench.method.registry import load_method
from ncbench.runtime.state import capture
from ncbench.training.course import CourseJudge
from ncbench.training.numbering import Numbering


class Looking:
    """A method whose plan rematches its first captions, and which uses generators and modes meanwhile."""

    name = "looking"

    def __init__(self, network: nn.Module, plan: Plan | None, act: Callable[[nn.Module], Any] = lambda _: None) -> None:
        self.network, self.plan, self.act = network, plan, act

    def state_dict(self) -> dict[str, Any]:
        return {"kept": getattr(self, "kept", None)}

    def transport_plan(self) -> Plan | None:
        self.network.eval()
        torch.rand(3)
        np.random.rand(3)
        self.act(self.network)
        return self.plan


@pytest.fixture
def judged(tiny: Dataset) -> tuple[CourseJudge, Plan, np.ndarray]:
    train = tiny.splits["train"]
    claimed = np.roll(train.true, 7)
    rng = np.random.default_rng(0)
    numbering = Numbering(rng.permutation(len(train.captions)), rng.permutation(len(train.images)))
    plan = Plan(rng.permutation(len(train.captions))[:6], rng.permutation(len(train.images))[:9], rng.random((9, 6)))
    noise: Any = SimpleNamespace(claimed=claimed, splices=None, clean=lambda true: claimed == true)
    return CourseJudge(tiny, noise, numbering), plan, claimed


def test_numbers_are_those_of_the_dataset(judged: tuple[CourseJudge, Plan, np.ndarray], tiny: Dataset) -> None:
    judge, plan, claimed = judged
    network = nn.Linear(2, 2)
    method: Any = Looking(network, plan)
    restored = Plan(judge.numbering.captions[plan.captions], judge.numbering.images[plan.images], plan.mass)
    closeness = None if tiny.semantics is None else lambda *pair: tiny.semantics.closeness("train", *pair)
    expected = plan_shares(restored, tiny.splits["train"].true, claimed, closeness)
    assert judge.shares(method, [network]) == expected
    assert expected is not None


def test_training_does_not_notice(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    judge, plan, _ = judged
    network = nn.Linear(2, 2).train()
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    method: Any = Looking(network, plan)
    judge.shares(method, [network])
    assert torch.equal(torch.rand(4), expected)
    assert network.training


def test_running_statistics_are_restored(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    """A forward pass in training mode changes them."""
    judge, plan, _ = judged
    network = nn.BatchNorm1d(2)
    method: Any = Looking(network, plan, lambda norm: norm.train()(torch.ones(4, 2)))
    judge.shares(method, [network])
    assert network.running_mean is not None
    assert network.running_mean.tolist() == [0, 0]
    assert network.num_batches_tracked == 0


def test_a_state_that_cannot_be_saved_is_told_elsewhere(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    judge, plan, _ = judged
    method: Any = Looking(nn.Linear(2, 2), plan)
    method.kept = {1, 2}
    method.state_dict = lambda: capture(method.kept)
    assert judge.shares(method, [method.network]) is not None


def test_a_method_that_trains_meanwhile_is_refused(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    judge, plan, _ = judged
    network = nn.Linear(2, 2)
    method: Any = Looking(network, plan, lambda seen: nn.init.zeros_(seen.weight))
    with pytest.raises(UserError, match="transport_plan of looking changes the weights of its networks"):
        judge.shares(method, [network])


def test_methods_without_a_plan(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    judge, _, _ = judged
    network = nn.Linear(2, 2)
    method: Any = Looking(network, None)
    assert judge.shares(method, [network]) is None


class Believing(Looking):
    """A method that states beliefs, in its own numbers."""

    def __init__(self, network: nn.Module, p_clean: Any, labels: Any) -> None:
        super().__init__(network, None)
        self.p_clean, self.labels = p_clean, labels

    def pair_scores(self) -> Any:
        self.network.eval()
        torch.rand(3)
        return self.p_clean

    def soft_labels(self) -> Any:
        return self.labels


def test_beliefs_are_judged_in_the_order_of_the_method(
    judged: tuple[CourseJudge, Plan, np.ndarray], tiny: Dataset
) -> None:
    judge, _, claimed = judged
    claimed[::3] = tiny.splits["train"].true[::3]
    clean = claimed == tiny.splits["train"].true
    network = nn.Linear(2, 2).train()
    scores = np.random.default_rng(1).random(len(clean))
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    method: Any = Believing(network, scores[judge.numbering.captions], None)
    found = judge.detections(method, [network], np.empty(0, np.int64))
    assert found == (detect(scores, clean), None)
    assert torch.equal(torch.rand(4), expected)
    assert network.training
    method = Believing(network, None, clean[judge.numbering.captions].astype(float))
    given = np.flatnonzero(judge.numbering.shown(clean))[:2]
    _, labels = judge.detections(method, [network], given)
    assert labels is not None
    assert (labels.auc, labels.calibration_error, labels.pairs) == (1.0, 0.0, len(clean) - 2)


@pytest.mark.parametrize("scores", [np.full(48, np.nan), np.full(48, 1.5), np.zeros(3)])
def test_beliefs_that_are_not_complete_yet_are_not_judged(
    scores: np.ndarray, judged: tuple[CourseJudge, Plan, np.ndarray]
) -> None:
    network = nn.Linear(2, 2)
    method: Any = Believing(network, scores, None)
    assert judged[0].detections(method, [network], np.empty(0, np.int64)) == (None, None)


def test_histories_hold_how_good_beliefs_were(tiny: Dataset, tmp_path: Path) -> None:
    run = prepare_run(tiny, tmp_path, load_method("coteaching"), budget=2.0, evaluations=2, settings={"batch_size": 8})
    result = run.execute()
    lines = [json.loads(line)["detection"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert result.beliefs.detection is not None
    assert lines[-1] == asdict(result.beliefs.detection)


def test_a_method_may_not_keep_what_it_computes(judged: tuple[CourseJudge, Plan, np.ndarray]) -> None:
    """Nothing counts the work of what is asked here: a method could score all pairs for free, and train on that."""
    judge, plan, _ = judged
    network = nn.Linear(2, 2)
    method: Any = Looking(network, plan)
    method.act = lambda _: setattr(method, "kept", 1.0)
    with pytest.raises(UserError, match=r"^transport_plan of looking changes its state\['kept'\].*; it may only look$"):
        judge.shares(method, [network])
