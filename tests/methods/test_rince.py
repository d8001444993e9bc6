"""Robust InfoNCE: its formula, its two limits, and that it is stable."""

from __future__ import annotations

from math import exp

import pytest
import torch
from similarities import EXAMPLE

from ncbench import losses
from ncbench_methods.rince import RINCE, rince


def naive(scores: list[list[float]], tau: float, q: float, density: float) -> float:
    """The formula of the paper, one query at a time."""
    size, total = len(scores), 0.0
    for i in range(size):
        for line in (scores[i], [scores[j][i] for j in range(size)]):
            positive, everything = exp(line[i] / tau), sum(exp(s / tau) for s in line)
            total += -(positive**q) / q + (density * everything) ** q / q
    return total / size


@pytest.mark.parametrize("tau", [0.1, 0.5])
@pytest.mark.parametrize(("q", "density"), [(0.1, 0.01), (0.5, 0.025), (1.0, 0.3)])
def test_loss_against_a_naive_one(tau: float, q: float, density: float) -> None:
    assert rince(EXAMPLE, tau, q, density).item() == pytest.approx(naive(EXAMPLE.tolist(), tau, q, density), rel=1e-9)


def test_for_small_q_gradients_are_those_of_info_nce() -> None:
    grads = []
    for loss in (lambda s: rince(s, 0.2, 1e-6, 0.5), lambda s: losses.info_nce(s, 0.2)):
        scores = EXAMPLE.clone().requires_grad_()
        loss(scores).backward()
        grads.append(scores.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6)


def test_for_q_1_all_pairs_of_a_row_pull_and_push_alike() -> None:
    """Symmetric: the loss summed over all possible partners of an image does not depend on which one is right."""
    tau, density, size = 0.3, 1 / 3, 3
    line = (EXAMPLE[0] / tau).exp()
    total = sum(-line[k] + density * line.sum() for k in range(size))
    assert total.item() == pytest.approx(0, abs=1e-9)


def test_the_method_uses_its_settings() -> None:
    config = RINCE.Config(tau=0.3, q=0.4, density=0.2)
    method = RINCE(config)
    assert method.loss(EXAMPLE, None).item() == pytest.approx(naive(EXAMPLE.tolist(), 0.3, 0.4, 0.2))  # type: ignore[arg-type]


def test_gradients_are_finite_at_the_ends_of_settings() -> None:
    for settings in ({"tau": 0.01, "q": 0.5}, {"tau": 0.02, "q": 1.0}, {"tau": 1.0, "q": 0.01}):
        scores = torch.tensor([[1.0, -1.0], [0.9, -1.0]], requires_grad=True)
        RINCE(RINCE.Config(**settings)).loss(scores, None).backward()  # type: ignore[arg-type]
        assert scores.grad is not None
        assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": 0.0}, "q must be above 0"),
        ({"q": 1.5}, "q must be at most 1"),
        ({"density": 0.0}, "density must be above 0"),
        ({"tau": 0.001}, "tau must be at least 0.01"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RINCE.Config(**settings)
