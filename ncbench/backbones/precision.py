"""Arithmetic of matrix products: single precision, or a faster one where a user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Precision = Literal["float32", "tf32", "bf16"]
"""tf32: CUDA rounds the factors of all products to 10 bits of mantissa. bf16: those of SGR's and SAF's images and
pairs to 7 bits, on any device; norms, recurrent networks, scores and weights stay in single precision."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Let CUDA use TF32 inside, if that is asked for; elsewhere it changes nothing."""
    import torch  # here, so that naming a precision loads no torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
