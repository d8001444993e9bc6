"""Gradients that can be differentiated again, for functions whose own backward pass cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    plain: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `inputs` through `plain(*inputs)` from that of its result, `grad`.

    Made by operations that autograd records; None for inputs that need none.
    """
    apart = [tensor.view_as(tensor) for tensor in inputs]  # or what one input owes to another would count twice
    asked = [tensor for tensor in apart if tensor.requires_grad]
    found = iter(torch.autograd.grad(plain(*apart), asked, grad, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in apart)
