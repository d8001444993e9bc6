"""Similarities of small batches: those of the worked examples, and random ones."""

from __future__ import annotations

import torch
from torch import Tensor

EXAMPLE = torch.tensor([[0.70, 0.55, 0.20], [0.30, 0.60, 0.65], [0.10, 0.45, 0.50]], dtype=torch.float64)
"""Three pairs of images (rows) and captions (columns), the third caption fits the second image better than its own."""


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Return float64 numbers between 0 and 1, the same for the same `shape` and `seed`."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
