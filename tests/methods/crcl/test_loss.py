"""The loss of CRCL."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from similarities import EXAMPLE

from ncbench import Task
from ncbench.method.losses import log_matching
from ncbench_methods import crcl

MakeTask = Callable[..., Task]

TAU = 0.05


def plain_matching(S: Any, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Return p of captions per image and of images per caption, both (pair, other)."""
    e = np.exp(np.asarray(S, dtype=np.float64) / tau)
    return e / e.sum(1, keepdims=True), (e / e.sum(0, keepdims=True)).T


def plain_loss(S: Any, y: Any, tau: float, weight: float) -> float:
    total, n = 0.0, len(y)
    for p in plain_matching(S, tau):
        for i in range(n):
            others = sum(math.tan(p[i, j]) for j in range(n) if j != i)
            total += -y[i] * math.log(p[i, i])
            total += weight * others / (others + math.tan(p[i, i])) ** (1 - y[i])
    return total / n


@pytest.mark.parametrize(
    ("y", "complementary", "active", "weighted", "loss"),
    [
        ((1, 1, 1), (0.047844, 1.197229, 1.681595), 1.691375, 4.877781, 6.569156),
        ((1, 0.897415, 0.317830), (0.047844, 1.178410, 1.336829), 0.869977, 4.271806, 5.141783),
        ((1, 0.5, 0), (0.047844, 1.108262, 1.202604), 0.293481, 3.931184, 4.224665),
    ],
)
def test_a_worked_example(
    y: tuple[float, ...], complementary: tuple[float, ...], active: float, weighted: float, loss: float
) -> None:
    log_p, labels = log_matching(EXAMPLE, TAU), torch.tensor(y).double()
    matching = log_p.exp().diagonal(dim1=1, dim2=2).mean(0)
    np.testing.assert_allclose(matching, [0.976096, 0.487073, 0.389150], atol=1e-6)
    positive = -log_p.diagonal(dim1=1, dim2=2).sum(0)
    np.testing.assert_allclose(positive, [0.048972, 1.662940, 3.362212], atol=1e-6)
    found = [crcl.active_complementary_loss(log_p, labels, weight).item() for weight in (0.0, 5.0)]
    assert found == pytest.approx([active, loss], abs=2e-6)
    assert found[1] - found[0] == pytest.approx(weighted, abs=2e-6)
    assert sum(complementary) / 3 * 5 == pytest.approx(weighted, abs=5e-6)


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_that_of_plain_loops(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    S, y = (torch.rand(shape, generator=draw, dtype=torch.float64) for shape in ((7, 7), (7,)))
    y[0], y[1] = 0.0, 1.0
    log_p = log_matching(2 * S - 1, 0.3)
    for found, expected in zip(log_p, plain_matching(2 * S - 1, 0.3), strict=True):
        np.testing.assert_allclose(found.exp(), expected, rtol=1e-12)
    loss = crcl.active_complementary_loss(log_p, y, 2.5)
    assert loss.item() == pytest.approx(plain_loss(2 * S - 1, y.tolist(), 0.3, 2.5), rel=1e-12)


def test_gradients_are_right_and_finite() -> None:
    y = torch.tensor([0.0, 0.3, 1.0]).double()
    assert torch.autograd.gradcheck(
        lambda S: crcl.active_complementary_loss(log_matching(S, 0.2), y, 5.0), EXAMPLE.clone().requires_grad_()
    )
    S = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [1, 1, -1]], requires_grad=True)
    loss = crcl.active_complementary_loss(log_matching(S, 0.01), y.float(), 5.0)
    loss.backward()
    assert loss.isfinite()
    assert S.grad is not None
    assert S.grad.isfinite().all()
