"""Norms as the field's code has them: the epsilon is added to the norm, not under the root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-8


class _L2Normalise(torch.autograd.Function):
    """y = x / (n + eps), n = |x|; dx = (dy - y (y . dy) (n + eps) / n) / (n + eps): half the passes of autograd's own.

    A zero vector has no derivative in the published form (its gradient is NaN); here it passes its gradient on.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
        scale = torch.where(norm > 0, norm + EPSILON, 1.0).reciprocal()
        y = x * scale
        ctx.dim = dim
        ctx.save_for_backward(y, norm, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y, norm, scale = ctx.saved_tensors
        along = (y * grad).sum(ctx.dim, keepdim=True)
        radial = torch.where(norm > 0, along * (1 + EPSILON / norm), 0.0)
        return torch.addcmul(grad, y, radial, value=-1.0).mul(scale), None


def l2_normalise(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / (|x|_2 + 1e-8) along `dim`; a zero vector stays zero and passes its gradient on unscaled."""
    result: Tensor = _L2Normalise.apply(x, dim)  # type: ignore[no-untyped-call]
    return result


def l1_normalise(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / (|x|_1 + 1e-8) along `dim`."""
    return x / (x.abs().sum(dim, keepdim=True) + EPSILON)
