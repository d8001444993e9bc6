"""Differentiable gradients for custom functions whose own backward pass is not differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    plain: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `inputs` through `plain(*inputs)`, given `grad` of its result.

    Autograd records the computation. None for inputs that require no gradient.
    """
    views = [tensor.view_as(tensor) for tensor in inputs]  # an input may depend on another; views count it once
    targets = [tensor for tensor in views if tensor.requires_grad]
    found = iter(torch.autograd.grad(plain(*views), targets, grad, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in views)
