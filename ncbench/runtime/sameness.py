"""Where two states differ (see `ncbench.runtime.state`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Return the places where two states are not equal bit by bit, including types, shapes and the order of keys.

    NaN equals NaN. States are numbers, strings, None, arrays, tensors, and dictionaries, lists and tuples of these.
    """
    if type(left) is not type(right):
        return [f"{where}: {type(left).__name__} and {type(right).__name__}"]
    if isinstance(left, dict):
        if list(left) != list(right):
            apart = sorted(map(str, left.keys() ^ right.keys()))
            return [f"{where}: keys {', '.join(apart) or 'in a different order'}"]
        return [place for key in left for place in differences(left[key], right[key], f"{where}[{key!r}]")]
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return [f"{where}: {len(left)} and {len(right)} items"]
        pairs = enumerate(zip(left, right, strict=True))
        return [place for n, (one, other) in pairs for place in differences(one, other, f"{where}[{n}]")]
    return [] if _equal(left, right) else [where]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and torch.equal(_bits(left), _bits(right))
    if isinstance(left, np.ndarray):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and left.tobytes() == right.tobytes()
    return bool(left == right or (left != left and right != right))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, (n,) uint8."""
    return tensor.detach().cpu().flatten().contiguous().view(torch.uint8)
