"""Sorting of many short rows: NumPy sorts integers with vector instructions, torch on CPUs does not."""

from __future__ import annotations

import torch
from torch import Tensor

LOW_HALF = 2**32 - 1


def sort_descending(values: Tensor) -> Tensor:
    """Return `values` (..., K), each row sorted, largest first. Differentiable; among ties, the first stays first."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.sort(dim=-1, descending=True, stable=True).values
    rows = values.contiguous()
    bits = rows.detach().view(torch.int32)
    # As integers, floats are in order; negative ones in reversed order, unless all bits but the sign are flipped.
    ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    keys = ordered.bitwise_not_().long().bitwise_left_shift_(32).bitwise_or_(torch.arange(values.shape[-1]))
    keys.numpy().sort(axis=-1)
    return rows.gather(-1, keys.bitwise_and_(LOW_HALF))
