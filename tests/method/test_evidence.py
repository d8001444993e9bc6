"""Evidence for classes, and its loss."""

from __future__ import annotations

import pytest
import torch
from similarities import uniform
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from ncbench.method.evidence import evidential_losses, tanh_of_logit

RAW = torch.tensor([[0.9, 0.2, -0.4], [0.1, 0.3, 0.6], [-0.5, 0.0, 0.8]], dtype=torch.float64)
EVIDENCE = (RAW.tanh() / 0.1).exp()
ALL = torch.ones(3, dtype=torch.bool)
WITHOUT_1 = torch.tensor([True, False, True])


def test_tanh_of_the_raw_score() -> None:
    raw = torch.linspace(-12, 12, 97, dtype=torch.float64)
    torch.testing.assert_close(tanh_of_logit(raw.sigmoid()), raw.tanh(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_has_finite_gradients_where_the_sigmoid_saturates(dtype: torch.dtype) -> None:
    s = torch.tensor([0.0, 1e-30, 0.2, 0.5, 0.9, 1.0], dtype=dtype, requires_grad=True)
    found = tanh_of_logit(s)
    found.sum().backward()
    assert found[[0, 3, 5]].tolist() == [-1.0, 0.0, 1.0]
    # dT/ds = (dT/dr) / (ds/dr) = (1 - T^2) / (s (1 - s)), which is 4 in the middle and goes to 0 at both ends.
    inner = torch.tensor([2, 4])
    slopes = (1 - found.detach() ** 2)[inner] / (s * (1 - s)).detach()[inner]
    torch.testing.assert_close(s.grad[inner], slopes, rtol=1e-5, atol=0)
    assert s.grad[[0, 1, 3, 5]].tolist() == pytest.approx([0, 0, 4, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("clean", "of_images", "of_captions", "loss"),
    [
        (ALL, (0.195389, 2.373928, 0.026289), (0.085676, 0.379550, 0.902664), 1.321165),
        (WITHOUT_1, (0.195389, 1.367955, 0.026289), (0.085676, 0.753036, 0.902664), 1.110336),
    ],
)
def test_worked_example(clean: Tensor, of_images: tuple[float], of_captions: tuple[float], loss: float) -> None:
    rows, columns = (evidential_losses(evidence, clean, 0.1) for evidence in (EVIDENCE, EVIDENCE.T))
    assert rows.tolist() == pytest.approx(of_images, abs=2e-6)
    assert columns.tolist() == pytest.approx(of_captions, abs=2e-6)
    assert (rows + columns).mean().item() == pytest.approx(loss, abs=2e-6)


def test_parts_of_the_worked_example() -> None:
    errors = evidential_losses(EVIDENCE, ALL, 0.0)
    assert errors.tolist() == pytest.approx([0.000091 + 0.000011, 1.660361 + 0.000738, 0.000024 + 0.000010], abs=2e-6)
    divergence = evidential_losses(EVIDENCE, ALL, 1.0) - errors
    assert divergence.tolist() == pytest.approx([1.952879, 7.128286, 0.262555], abs=2e-6)


def dirichlet_losses(evidence: Tensor, clean: list[bool], kl_weight: float) -> list[float]:
    """The same one query at a time, from torch's Dirichlet distribution and its divergences."""
    found = []
    for i, row in enumerate(evidence):
        label = torch.zeros(len(row), dtype=row.dtype)
        label[i] = float(clean[i])
        belief = Dirichlet(row + 1)
        wrong = row + 1
        if clean[i]:
            wrong[i] = 1
        divergence = kl_divergence(Dirichlet(wrong), Dirichlet(torch.ones_like(row)))
        squares = ((label - belief.mean) ** 2).sum() + belief.variance.sum()
        found.append((squares + kl_weight * divergence).item())
    return found


@pytest.mark.parametrize("size", [2, 5, 9])
@pytest.mark.parametrize("scale", [0.5, 3.0, 10.0])
def test_losses_against_distributions(scale: float, size: int) -> None:
    evidence = (scale * (2 * uniform(size, size, seed=size) - 1)).exp()
    clean = [number % 2 == 1 for number in range(size)]
    found = evidential_losses(evidence, torch.tensor(clean), 0.3)
    assert found.tolist() == pytest.approx(dirichlet_losses(evidence, clean, 0.3), rel=1e-8)


def test_a_noisy_pair_without_evidence_costs_least() -> None:
    little, much = torch.zeros(4, 4, dtype=torch.float64), torch.full((4, 4), 50.0, dtype=torch.float64)
    noisy = torch.zeros(4, dtype=torch.bool)
    assert (evidential_losses(little, noisy, 0.1) < evidential_losses(much, noisy, 0.1)).all()


def test_gradients_of_the_evidential_loss() -> None:
    scores, clean = (2 * uniform(4, 4) - 1).requires_grad_(), torch.tensor([True, False, True, False])
    assert torch.autograd.gradcheck(lambda S: evidential_losses((S / 0.5).exp(), clean, 0.1), scores)


@pytest.mark.parametrize("s", [0.0, 1.0])
def test_gradients_are_finite_where_similarities_saturate(s: float) -> None:
    S = torch.full((4, 4), s, dtype=torch.float64)
    S[1, 2] = 0.7
    S.requires_grad_()
    evidence = (tanh_of_logit(S) / 0.1).exp()
    evidential_losses(evidence, torch.tensor([True, False, True, False]), 0.1).sum().backward()
    assert S.grad.isfinite().all()
    assert S.grad.nonzero().tolist() == [[1, 2]]
