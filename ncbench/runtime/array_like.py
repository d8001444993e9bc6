"""Numbers as callers have them: arrays, tensors of any device and precision, lists and Series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncbench.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

Numbers: TypeAlias = "ArrayLike | Tensor"
"""What public functions take where they compute with NumPy: arrays, tensors, nested lists, Series."""


def as_floats(name: str, values: Numbers) -> NDArray[np.floating[Any]]:
    """Return the argument `name` as floating-point numbers, exactly: bfloat16 as float32, integers as float64.

    Arrays, and tensors on the CPU, are not copied. Raises ArgumentError for other things than numbers.
    """
    found = _array(name, values, "numbers")
    if found.dtype.kind in "iu":
        return found.astype(np.float64)
    if found.dtype.kind != "f":
        raise ArgumentError(f"{name}: expected numbers, found {_of(found)}")
    return found


def as_integers(name: str, values: Numbers) -> NDArray[np.int64]:
    """Return the argument `name` as int64. Raises ArgumentError for other things than integers."""
    found = _array(name, values, "integers")
    if found.dtype.kind not in "iu" and found.size:
        raise ArgumentError(f"{name}: expected integers, found {_of(found)}")
    return found.astype(np.int64, copy=False)


def as_booleans(name: str, values: Numbers) -> NDArray[np.bool_]:
    """Return the argument `name` as booleans. Raises ArgumentError for other things, 0 and 1 too."""
    found = _array(name, values, "booleans")
    if found.dtype != np.bool_ and found.size:
        raise ArgumentError(f"{name}: expected booleans, found {_of(found)}; convert 0 and 1 with .astype(bool)")
    return found.astype(np.bool_, copy=False)


def _array(name: str, values: Numbers, expected: str) -> NDArray[Any]:
    try:
        return np.asarray(_plain(values))
    except (TypeError, ValueError, RuntimeError) as error:
        problem = str(error).partition("\n")[0]
        raise ArgumentError(f"{name}: expected {expected}, found {type(values).__name__} ({problem})") from error


def _plain(values: Any) -> Any:
    """Return tensors as arrays, also those in lists."""
    if hasattr(values, "detach"):
        found = values.detach().cpu()
        # NumPy has neither bfloat16 nor the types of eight bits; float32 holds them all.
        lacks = found.is_floating_point() and str(found.dtype) not in (
            "torch.float16",
            "torch.float32",
            "torch.float64",
        )
        return (found.float() if lacks else found).numpy()
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        return [_plain(value) for value in values]
    return values


def _of(found: NDArray[Any]) -> str:
    return f"an array of {found.dtype}" if found.ndim else f"a single {found.dtype}"
