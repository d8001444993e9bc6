"""Evidential learning: similarities as evidence for the classes of a Dirichlet distribution (DECL, ACM MM 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tanh_of_logit(s: Tensor) -> Tensor:
    """Return tanh(r) for s = sigmoid(r) in [0, 1]. No logit is computed, so gradients at 0 and 1 are finite."""
    return (2 * s - 1) / (s.square() + (1 - s).square())


def evidential_losses(evidence: Tensor, clean: Tensor, kl_weight: float) -> Tensor:
    """Return the loss (B,) of every query from its evidence (B, B), at least 0, for each class.

    The evidence for a query's own class is on the diagonal. alpha = evidence + 1 are the parameters of a Dirichlet
    distribution, and the label is 1 for the own class of a `clean` (B,) bool query and 0 elsewhere. The loss is the
    expected squared error of the class probabilities, plus `kl_weight` times the divergence from the uniform
    distribution of the Dirichlet without the label's evidence. Source: DECL, evidential loss.
    """
    labels = torch.diag(clean.to(evidence.dtype))
    alpha = evidence + 1
    strength = alpha.sum(1, keepdim=True)
    mean = alpha / strength
    variance = mean * (1 - mean) / (strength + 1)
    errors = ((labels - mean).square() + variance).sum(1)
    return errors + kl_weight * _divergence_from_uniform(evidence * (1 - labels) + 1)


def _divergence_from_uniform(alpha: Tensor) -> Tensor:
    """Return KL(Dir(alpha) || Dir(1)) of every row, (B,) from (B, K)."""
    total = alpha.sum(1)
    moments = ((alpha - 1) * (alpha.digamma() - total.digamma()[:, None])).sum(1)
    return moments + total.lgamma() - alpha.lgamma().sum(1) - math.lgamma(alpha.shape[1])
