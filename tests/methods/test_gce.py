"""Generalised cross-entropy: its formula, its two limits and its bound."""

from __future__ import annotations

from math import exp

import pytest
import torch
from similarities import EXAMPLE

from ncbench import losses
from ncbench_methods.gce import GCE, gce


def probabilities(scores: list[list[float]], tau: float) -> list[float]:
    """Of each pair, in its row and in its column."""
    size, found = len(scores), []
    for i in range(size):
        for line in (scores[i], [scores[j][i] for j in range(size)]):
            found.append(exp(line[i] / tau) / sum(exp(s / tau) for s in line))
    return found


@pytest.mark.parametrize("tau", [0.05, 0.5])
@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_loss_against_a_naive_one(tau: float, q: float) -> None:
    expected = sum((1 - p**q) / q for p in probabilities(EXAMPLE.tolist(), tau)) / len(EXAMPLE)
    assert gce(EXAMPLE, tau, q).item() == pytest.approx(expected, rel=1e-9)
    method = GCE(GCE.Config(tau=tau, q=q))
    assert method.loss(EXAMPLE, None).item() == pytest.approx(expected)  # type: ignore[arg-type]


def test_its_limits_are_cross_entropy_and_the_mean_absolute_error() -> None:
    assert gce(EXAMPLE, 0.1, 1e-9).item() == pytest.approx(losses.info_nce(EXAMPLE, 0.1).item(), rel=1e-6)
    # Of one-hot labels, the absolute error summed over all classes is 2 - 2 p.
    error = sum(2 - 2 * p for p in probabilities(EXAMPLE.tolist(), 0.1)) / 2 / len(EXAMPLE)
    assert gce(EXAMPLE, 0.1, 1.0).item() == pytest.approx(error)


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_a_mismatched_pair_costs_little_and_hardly_trains(q: float) -> None:
    scores = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], requires_grad=True)
    loss = gce(scores, 0.01, q)
    loss.backward()
    assert loss.item() == pytest.approx(2 / q)
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-10
