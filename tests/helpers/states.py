"""What it means that two states are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, (n,) uint8."""
    return tensor.flatten().contiguous().view(torch.uint8)


def same(left: Any, right: Any) -> bool:
    """Return whether two states are equal to the last bit; types, shapes and orders of keys included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and torch.equal(bits(left), bits(right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right or (left != left and right != right))  # NaN is the same as NaN
