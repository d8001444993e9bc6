"""The queue of L2RM, and what its plan may and may not match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from set_up import set_up_l2rm
from torch import Tensor

from ncbench import Task, transport

MakeTask = Callable[..., Task]


@pytest.mark.parametrize("queue", [8, 12, 20])
def test_queue_is_first_in_first_out(queue: int, make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(), queue=queue)
    assert (len(method.queue), len(method.queue_numbers)) == (queue, queue)
    expected = method.queue_numbers.tolist()
    for start in (0, 8, 24):
        batch = method.task.data.batch(np.arange(start, start + 8))
        method._enqueue(batch)
        expected = [*method.task.data.claimed[batch.pairs].tolist(), *expected][:queue]
        assert method.queue_numbers.tolist() == expected
        assert torch.equal(method.queue, method.task.data.images(np.array(expected)))


@pytest.mark.parametrize("solver", ["sinkhorn", "exact"])
def test_every_given_pair_of_the_batch_is_forbidden(
    solver: str, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = np.arange(48) % 6  # eight captions claim each image: many given pairs off the diagonal
    method = set_up_l2rm(make_task(claimed=claimed), queue=16, solver=solver)
    asked: list[Tensor] = []
    original = transport.partial_transport

    def spy(cost: Tensor, mass: float, reg: float, forbidden: Tensor, **rest: Any) -> Tensor:
        assert (mass, reg, rest) == (0.1, 0.07, {"solver": solver, "shrink": True})
        asked.append(forbidden)
        return original(cost, mass, reg, forbidden, **rest)

    monkeypatch.setattr(transport, "partial_transport", spy)
    batch = method.task.data.batch(np.array([0, 6, 1, 2, 12, 3, 9, 5]))
    method._enqueue(batch)
    plan = method._plan(method._similarities(method.queue, batch), batch)
    (forbidden,) = asked
    assert forbidden.shape == plan.shape == (16, 8)
    for q in range(16):
        for c in range(8):
            assert forbidden[q, c] == (method.queue_numbers[q] == claimed[batch.pairs[c]])
    assert forbidden[:8].diagonal().all()
    assert forbidden.sum() > 8 + 6
    assert not plan[forbidden].any()
    assert plan.sum().item() == pytest.approx(0.1, rel=1e-3)
    assert not plan.requires_grad


def test_complement_is_the_learned_cost_at_first(make_task: MakeTask) -> None:
    plans = []
    for cost in ("learned", "complement"):
        method = set_up_l2rm(make_task(), cost=cost)
        batch = method.task.data.batch(np.arange(0, 16, 2))
        method._enqueue(batch)
        with torch.no_grad():
            plans.append(method._plan(method._similarities(method.queue, batch), batch))
    torch.testing.assert_close(*plans)


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_complement_and_learned_cost_train_nearly_alike(backbone: str, make_task: MakeTask) -> None:
    scores = []
    for cost in ("learned", "complement"):
        method = set_up_l2rm(make_task(backbone=backbone), cost=cost, queue=12, warmup=1.0)
        view = method.task.data
        for start in range(0, 40, 8):
            method._update(view.batch(np.arange(start, start + 8)), view.batch(np.arange(start, start + 8)[::-1] + 8))
        with torch.no_grad():
            method.backbone.eval()
            batch = view.batch(np.arange(48))
            scores.append(method._similarities(batch.images, batch))
    fresh = set_up_l2rm(make_task(backbone=backbone), queue=12).backbone.eval()
    with torch.no_grad():
        moved = (fresh(*batch.inputs) - scores[0]).abs().max()
    assert moved > 0.05
    assert (scores[0] - scores[1]).abs().max() < moved / 30
