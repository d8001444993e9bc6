"""Norms: values and gradients against the formula, and at zero, where the published form has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncbench.backbones.normalise import l1_normalise, l2_normalise


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_l2(x: Tensor, dim: int = -1) -> Tensor:
    return x / (x.square().sum(dim, keepdim=True).sqrt() + 1e-8)


@pytest.mark.parametrize("dim", [-1, 0, 1, 2])
def test_l2_is_the_formula(dim: int) -> None:
    x = random(3, 4, 5)
    torch.testing.assert_close(l2_normalise(x, dim), plain_l2(x, dim), rtol=1e-14, atol=0)
    torch.testing.assert_close(l1_normalise(x, dim), x / (x.abs().sum(dim, keepdim=True) + 1e-8), rtol=1e-14, atol=0)


def test_epsilon_is_added_to_the_norm() -> None:
    small = torch.tensor([3e-8, 4e-8], dtype=torch.float64)
    torch.testing.assert_close(l2_normalise(small), small / 6e-8)
    torch.testing.assert_close(l1_normalise(small), small / 8e-8)


@pytest.mark.parametrize("dim", [-1, 0])
def test_l2_gradient(dim: int) -> None:
    x = random(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: l2_normalise(x, dim), (x,))


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4])
def test_l2_gradient_is_autograds_at_any_scale(scale: float) -> None:
    x, direction = random(4, 5) * scale, random(4, 5, seed=1)
    gradients = []
    for normalise in (l2_normalise, plain_l2):
        leaf = x.clone().requires_grad_()
        (normalise(leaf) * direction).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=0)


def test_l2_second_gradient_is_right_or_refused() -> None:
    """A backward pass from saved intermediate values has a derivative that autograd gets silently wrong."""
    results = []
    for normalise in (plain_l2, l2_normalise):
        x = random(3, 4).requires_grad_()
        (first,) = torch.autograd.grad(normalise(x).pow(3).sum(), x, create_graph=True)
        try:
            first.square().sum().backward()
        except RuntimeError as error:
            assert normalise is l2_normalise
            assert "once_differentiable" in str(error)  # noqa: PT017
            return
        results.append(x.grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("normalise", [l2_normalise, l1_normalise])
def test_zero_vectors_stay_zero_with_finite_gradients(normalise) -> None:
    x = random(3, 4)
    x[1] = 0
    x.requires_grad_()
    y = normalise(x)
    assert torch.equal(y[1], torch.zeros(4, dtype=torch.float64))
    (y * random(3, 4, seed=1)).sum().backward()
    assert x.grad.isfinite().all()


def test_a_zero_vector_passes_its_gradient_on() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    direction = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 1.0]])
    (l2_normalise(x) * direction).sum().backward()
    torch.testing.assert_close(x.grad, direction)


def test_unit_length_in_single_precision() -> None:
    torch.testing.assert_close(l2_normalise(random(50, 64).float()).norm(dim=-1), torch.ones(50), rtol=0, atol=1e-6)
