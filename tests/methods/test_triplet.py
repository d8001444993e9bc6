"""Triplet: which loss when, and that it is plain triplet training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from epochs import train_epoch

from ncbench import Task, losses
from ncbench.budget import BudgetSpent
from ncbench_methods.triplet import Triplet

MakeTask = Callable[..., Task]


def test_published_defaults() -> None:
    config = Triplet.Config()
    assert (config.batch_size, config.lr, config.margin, config.clip) == (128, 2e-4, 0.2, 2.0)
    assert (config.warmup, config.decay_every) == (5 / 40, 15 / 40)


@pytest.mark.parametrize("warmup", [0.0, 0.4, 1.1])
def test_mean_of_negatives_at_first_then_the_hardest(
    warmup: float, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(budget=2.0)
    called: list[tuple[str, float]] = []
    for name in ("hinge_mean", "hinge_max"):
        original = getattr(losses, name)

        def spy(S: torch.Tensor, margin: float, name: str = name, original: Callable = original) -> torch.Tensor:
            called.append((name, task.budget.progress))
            assert margin == 0.3
            return original(S, margin)

        monkeypatch.setattr(losses, name, spy)
    method = Triplet(Triplet.Config(batch_size=8, warmup=warmup, margin=0.3))
    method.setup(task)
    for epoch in range(2):
        scalars = list(train_epoch(method, epoch))
        assert len(scalars) == 6
    assert len(called) == 12
    assert [name for name, _ in called] == ["hinge_mean" if share < warmup else "hinge_max" for _, share in called]
    expected = {0.0: {"hinge_max"}, 0.4: {"hinge_mean", "hinge_max"}, 1.1: {"hinge_mean"}}[warmup]
    assert {name for name, _ in called} == expected


def test_the_budget_ends_training(make_task: MakeTask) -> None:
    method = Triplet(Triplet.Config(batch_size=8))
    method.setup(make_task(budget=0.5))
    updates = train_epoch(method, 0)
    for _ in range(2):
        next(updates)
    with pytest.raises(BudgetSpent):
        list(updates)


def test_updates_are_those_of_a_plain_loop(make_task: MakeTask) -> None:
    """The same loop by hand: every pair once, in the order of the stream, clipped Adam at a rate that falls."""
    budget, config = 2.0, Triplet.Config(batch_size=8, lr=1e-2, clip=0.5, warmup=0.3, decay_every=0.4)
    method, task = Triplet(config), make_task(budget)
    method.setup(task)
    for epoch in range(2):
        list(train_epoch(method, epoch))

    task = make_task(budget)
    net = task.new_backbone()
    adam = torch.optim.Adam(net.parameters(), config.lr)
    rng = task.rng("order of pairs")
    for _ in range(2):
        order = rng.permutation(48)
        for start in range(0, 48, 8):
            batch = task.data.batch(order[start : start + 8])
            scores = net(*batch.inputs)
            done = task.budget.progress
            costs = (
                (scores - scores.diagonal()[:, None] + 0.2).clamp(min=0),
                (scores - scores.diagonal() + 0.2).clamp(0),
            )
            costs = tuple(cost - torch.diag(cost.diagonal()) for cost in costs)
            if done < 0.3:
                loss = sum(cost.sum() / 8 for cost in costs)
            else:
                loss = costs[0].max(1).values.sum() + costs[1].max(0).values.sum()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.param_groups[0]["lr"] = 1e-2 * (0.1 if done >= 0.7 else 1)
            adam.step()
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}")


def test_no_beliefs(make_task: MakeTask) -> None:
    method = Triplet(Triplet.Config(batch_size=8))
    method.setup(make_task())
    assert method.pair_scores() is None
    assert method.rematches() is None


def test_training_mode_is_restored_by_the_method(make_task: MakeTask) -> None:
    method = Triplet(Triplet.Config(batch_size=8))
    method.setup(make_task(backbone="saf"))
    method.backbone.eval()
    next(iter(train_epoch(method, 0)))
    assert method.backbone.training
    assert np.isfinite(sum(weight.sum().item() for weight in method.backbone.parameters()))
