"""The cost network of L2RM: how it starts, and what it learns from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from set_up import set_up_l2rm
from similarities import uniform
from torch import Tensor

from ncbench import Batch, Optimiser, Task
from ncbench.budget import WorkMeter
from ncbench.method.rematching import CostNetwork

MakeTask = Callable[..., Task]


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_cost_starts_as_the_complement(rows: int) -> None:
    scores = 3 * uniform(rows, 5) - 1  # some above 1
    torch.testing.assert_close(CostNetwork(5).double()(scores), (1 - scores).clamp(min=0))


def test_cost_is_a_linear_map_of_rows() -> None:
    network, scores = CostNetwork(3).double(), uniform(4, 3)
    with torch.no_grad():
        network.linear.weight.copy_(uniform(3, 3, seed=1) - 0.5)
        network.linear.bias.copy_(uniform(3, seed=2) - 0.5)
    W, b = network.linear.weight, network.linear.bias
    for r in range(4):
        for c in range(3):
            expected = max(0.0, sum(W[c, k] * scores[r, k] for k in range(3)).item() + b[c].item())
            assert network(scores)[r, c].item() == pytest.approx(expected, abs=1e-12)


def test_worked_example_of_a_cost_update() -> None:
    network, scores = CostNetwork(4).double(), uniform(3, 4)
    scores[2, 0], scores[0, 1] = 0.8, 0.65
    loss = network(scores)[[2, 0], [0, 1]].sum()
    assert loss.item() == pytest.approx(0.55)
    loss.backward()
    W, b = network.linear.weight, network.linear.bias
    torch.testing.assert_close(W.grad, torch.stack([scores[2], scores[0], 0 * scores[0], 0 * scores[0]]))
    torch.testing.assert_close(b.grad, torch.tensor([1.0, 1, 0, 0]).double())

    network = CostNetwork(4).double()
    optimiser = Optimiser([network], WorkMeter(1), lr=2e-6)
    optimiser.step(network(scores)[[2, 0], [0, 1]].sum())
    moved = torch.tensor([1.0, 1, 0, 0]).double() * -2e-6
    # Adam's first step is lr * g / (|g| + 1e-8).
    change = network.linear.weight.detach() + torch.eye(4)
    torch.testing.assert_close(change, moved[:, None].expand(4, 4), rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(network.linear.bias.detach() - 1, moved, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(("planted", "largest"), [(0.5, 4), (0.1, 1), (0.25, 2)])
def test_clean_images_are_planted_in_the_queue(planted: float, largest: int, make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(), queue=12, planted=planted)
    seen: list[Tensor] = []
    score = method._similarities

    def spy(images: Tensor, batch: Batch) -> Tensor:
        assert not method.backbone.training
        assert not torch.is_grad_enabled()
        seen.append(images)
        return score(images, batch)

    method._similarities = spy
    clean, before = method.task.data.batch(np.arange(0, 16, 2)), method.queue.clone()
    weights = [weight.clone() for weight in method.backbone.parameters()]
    counts = set()
    for _ in range(20):
        rows = method.cost_network.linear.weight.detach().clone()
        method._learn_cost(clean)
        assert torch.equal(method.queue, before)  # a copy was planted
        planted_at = (seen[-1] != before).any(2).any(1).nonzero().flatten()
        for place in planted_at:
            assert any(torch.equal(seen[-1][place], image) for image in clean.images)
        counts.add(len(planted_at))
        assert (method.cost_network.linear.weight != rows).any()
    assert max(counts) <= largest
    assert len(counts) > 1 or largest == 1
    assert all(torch.equal(old, new) for old, new in zip(weights, method.backbone.parameters(), strict=True))


def test_learning_the_cost_lowers_it_at_true_matches(make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(), planted=1.0, lr_cost=1e-3)
    batch = method.task.data.batch(np.arange(0, 16, 2))
    with torch.no_grad():
        scores = method._similarities(batch.images, batch)
    before = method.cost_network(scores).diagonal().sum()
    for _ in range(5):
        method._learn_cost(batch)
    assert method.cost_network(scores).diagonal().sum() < before
