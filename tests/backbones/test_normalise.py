"""Normalisation: values and gradients against the formula, and at zero, where the published form has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncbench.backbones.normalise import l1_normalise, l2_normalise, norm_and_scale, radial_part, through_norm


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


@pytest.mark.parametrize("dim", [-1, 0])
def test_l2_second_derivatives(dim: int) -> None:
    """Derivatives of a backward pass that treats saved intermediate values as constants would be silently wrong."""
    assert torch.autograd.gradgradcheck(lambda x: l2_normalise(x, dim), (random(3, 4).requires_grad_(),))


def test_l2_second_derivatives_beside_a_zero_vector() -> None:
    results = []
    for normalise, rows in ((plain_l2, [0, 2]), (l2_normalise, [0, 1, 2])):
        x = random(3, 4)
        x[1] = 0
        x = x[rows].requires_grad_()
        (first,) = torch.autograd.grad(normalise(x).pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    expected, found = results
    assert found.isfinite().all()
    torch.testing.assert_close(found[[0, 2]], expected)


def test_norm_and_scale() -> None:
    x = torch.tensor([[3e-8, 4e-8], [0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    norm, scale = norm_and_scale(x)
    torch.testing.assert_close(norm, torch.tensor([[5e-8], [0], [5]], dtype=torch.float64), rtol=1e-14, atol=0)
    torch.testing.assert_close(scale, torch.tensor([[1 / 6e-8], [1], [1 / (5 + 1e-8)]], dtype=torch.float64))
    norm, scale = norm_and_scale(x, 0)
    assert (norm.shape, scale.shape) == ((1, 2), (1, 2))


def test_radial_part_of_a_worked_example() -> None:
    """Short vectors lose more than the projection, since epsilon keeps y shorter than 1; zero vectors lose nothing."""
    along, norm = torch.full((3,), 2.0, dtype=torch.float64), torch.tensor([1e-8, 1, 0], dtype=torch.float64)
    expected = torch.tensor([4, 2 + 2e-8, 0], dtype=torch.float64)
    torch.testing.assert_close(radial_part(along, norm), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4])
def test_through_norm_is_the_gradient(dim: int, scale: float) -> None:
    x, direction = (random(3, 4, 5) * scale).requires_grad_(), random(3, 4, 5, seed=1)
    (expected,) = torch.autograd.grad((plain_l2(x, dim) * direction).sum(), x)
    norm, factor = norm_and_scale(x.detach(), dim)
    found = through_norm(direction, x.detach() * factor, norm, factor, dim)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 / scale)


def test_through_norm_passes_the_gradient_of_zero_vectors_on() -> None:
    x, direction = random(2, 3), random(2, 3, seed=1)
    x[1] = 0
    norm, scale = norm_and_scale(x)
    assert torch.equal(through_norm(direction, x * scale, norm, scale)[1], direction[1])


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
