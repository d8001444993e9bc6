"""Stages of CRCL: a new network for each, and nothing but correspondences handed on."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from epochs import train_epoch, train_epochs
from set_up import set_up_crcl

from ncbench import Task
from ncbench.backbones.base import Backbone

MakeTask = Callable[..., Task]


@pytest.mark.parametrize("backbone", ["vse", "saf", "vse-infinity"])
def test_a_stage_starts_with_a_network_of_its_own_in_place_of_the_last(backbone: str, make_task: MakeTask) -> None:
    task = make_task(12.0, backbone=backbone)
    method = set_up_crcl(task)
    net, weights = method.backbone, dict(method.backbone.named_parameters())
    first_optimiser = method.optimiser
    epoch = 0
    while method._due_stage() == 0:
        list(train_epoch(method, epoch))
        epoch += 1
    assert method.stage == 0  # it is the next epoch that begins a stage
    trained, y = copy.deepcopy(net.state_dict()), method.pair_scores()
    random = torch.get_rng_state()
    work = task.budget.used
    method._begin(1)
    torch.set_rng_state(random)
    fresh = task.new_backbone().state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, fresh[name]), name
    drawn = [name for name in trained if not torch.equal(trained[name], fresh[name])]
    assert len(drawn) > len(trained) / 2
    assert method.backbone is net
    assert all(weights[name] is weight for name, weight in net.named_parameters())
    assert method.optimiser is not first_optimiser
    assert method.optimiser.state_dict()["state"] == {}
    np.testing.assert_array_equal(method.pair_scores(), y)
    assert task.budget.used == work
    next(iter(train_epoch(method, epoch)))
    assert task.budget.used > work  # the new network is metered as the old one was
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_every_stage_begins_once_and_one_backbone_is_built(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(15.0)
    built: list[Backbone] = []

    def count() -> Backbone:
        built.append(task.new_backbone())
        return built[-1]

    counted = Task(task.data, task.device, task.budget, count, task.seed)
    begun: list[tuple[int, float]] = []
    method = set_up_crcl(counted)
    begin = method._begin
    monkeypatch.setattr(method, "_begin", lambda stage: (begun.append((stage, task.budget.progress)), begin(stage)))
    list(train_epochs(method))
    assert len(built) == 1
    assert [stage for stage, _ in begun] == [1, 2]
    epoch = 1 / 15
    assert all(0.2 * stage <= share < 0.2 * stage + epoch / 6 for stage, share in begun)  # the update that ends a stage


def test_nothing_but_correspondences_reaches_the_next_stage(make_task: MakeTask) -> None:
    """Two methods that learned different things go on alike once they believe alike."""
    found = []
    for lr in (1e-2, 3e-2):
        task = make_task(12.0)
        method = set_up_crcl(task, warmup=0.0, lr=lr)
        epoch = 0
        while method._due_stage() == 0:
            list(train_epoch(method, epoch))
            epoch += 1
        object.__setattr__(method.config, "lr", 1e-2)
        task.budget.used = task.budget.total // 4
        method.order, method.augmenting = np.random.default_rng(0), np.random.default_rng(1)
        found.append(method.y)
        method.y = np.linspace(0, 1, 48)
        torch.manual_seed(3)
        list(train_epoch(method, epoch))
        assert method.stage == 1
        found.append(torch.cat([weight.detach().flatten() for weight in method.backbone.parameters()]))
    assert not np.array_equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_a_budget_of_less_than_a_stage_per_update(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task(0.5), short_stages=8, short=0.1)
    stages = [method.stage for _ in train_epochs(method)]
    assert len(stages) == 3
    assert stages[0] == 0
    assert stages == sorted(set(stages))  # stages are skipped, never repeated


def test_one_stage_is_plain_training(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task(2.0), short_stages=0, short=0.9)
    list(train_epochs(method))
    assert method.stage == 0
