"""Precision of matrix products: float32, or a faster one on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Precision = Literal["float32", "tf32", "bf16"]
"""tf32: CUDA rounds the factors of all products to a 10-bit mantissa. bf16: a 7-bit mantissa for the image and pair
computations of SGR and SAF, on any device; norms, recurrent networks, scores and weights stay in float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Allow TF32 on CUDA inside this context if `precision` is tf32, and forbid it otherwise."""
    import torch  # not at the top: this module must load without torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
