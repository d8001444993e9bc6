"""Rounding the layers of a network trained in floating point to the whole numbers that ncbench evaluates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench.data.scenes.detector import ACTIVATION_LIMIT

_CALIBRATION_SHARE = 0.9995  # of activations that are not clipped


def limit_of(activations: Tensor) -> float:
    """Return the activation that becomes ACTIVATION_LIMIT; few are larger, and are clipped."""
    values = activations.detach()
    return float(np.quantile(values[values > 0].numpy(), _CALIBRATION_SHARE))


def rounded_layer(name: str, weight: Tensor, bias: Tensor, unit_in: Tensor, unit_out: float) -> dict[str, NDArray[Any]]:
    """Return NAME.weight (8 bits), NAME.bias and NAME.shift of a layer with `weight` (inputs, outputs).

    Units are the floating-point values of one step. The scale of a weight follows from those of its inputs and outputs
    up to a power of two, which is chosen so that weights use most of their 8 bits.
    """
    scaled = weight * unit_in[:, None] / unit_out
    shift = int(torch.floor(torch.log2(ACTIVATION_LIMIT / abs(scaled).max())))
    half = 2 ** (shift - 1)
    return {
        # safetensors writes the memory of an array in order, whatever its strides.
        f"{name}.weight": np.ascontiguousarray(torch.round(scaled * 2**shift).to(torch.int8).numpy()),
        f"{name}.bias": (torch.round(bias / unit_out * 2**shift) + half).to(torch.int32).numpy(),
        f"{name}.shift": np.array([shift], np.int32),
    }
