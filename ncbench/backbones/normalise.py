"""Normalisation as in the published code: epsilon is added to the norm, not under the square root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8


class _L2Normalise(torch.autograd.Function):
    """y = x / (n + eps), n = |x|, with half the memory passes of autograd's backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        norm, scale = norm_and_scale(x, dim)
        ctx.dim = dim
        ctx.save_for_backward(x, norm, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, norm, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives: norm and scale are not constants
            norm, scale = norm_and_scale(x, ctx.dim)
        return through_norm(grad, x * scale, norm, scale, ctx.dim), None


def norm_and_scale(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Return |x|_2 along `dim` (kept), and the factor that normalises x: 1 / (|x|_2 + 1e-8), or 1 for zero vectors."""
    dtype = torch.promote_types(x.dtype, torch.float32)  # bf16 norms are too coarse for unit length
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=dtype)
    return norm, torch.where(norm > 0, norm + EPSILON, 1.0).reciprocal()


def radial_part(along: Tensor, norm: Tensor) -> Tensor:
    """Return the coefficient of y = x / (|x| + 1e-8) to subtract from a gradient, given `along`, its product with y."""
    # Never divide by zero, not even in the branch that is discarded: its derivative would be NaN.
    return along * torch.where(norm > 0, 1 + EPSILON / torch.where(norm > 0, norm, 1.0), 0.0)


def through_norm(grad: Tensor, y: Tensor, norm: Tensor, scale: Tensor, dim: int = -1) -> Tensor:
    """Return the gradient of x from that of y = x / (n + eps): dx = (dy - y (y . dy) (n + eps) / n) / (n + eps).

    The published form has no derivative at zero (the gradient is NaN); here, the gradient passes through unchanged.
    """
    radial = radial_part((y * grad).sum(dim, keepdim=True), norm)
    return torch.addcmul(grad, y, radial, value=-1.0) * scale


def l2_normalise(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / (|x|_2 + 1e-8) along `dim`. A zero vector stays zero and passes its gradient through unscaled."""
    result: Tensor = _L2Normalise.apply(x, dim)  # type: ignore[no-untyped-call]
    return result


def l1_normalise(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / (|x|_1 + 1e-8) along `dim`."""
    return x / (x.abs().sum(dim, keepdim=True) + EPSILON)
