"""Pieces in which large work is done, so that its tensors stay small: in a cache, or in the memory that is free."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# Of the widest tensor of a piece. A core's share of the last cache; elsewhere, enough to fill the device.
CPU_BYTES = 4 * 2**20
DEVICE_BYTES = 512 * 2**20


def piece_bytes(device: torch.device) -> int:
    """Return the bytes that the widest tensor of a piece should have on `device`."""
    return CPU_BYTES if device.type == "cpu" else DEVICE_BYTES


def spans(total: int, size: int) -> Iterator[slice]:
    """Yield the slices of at most `size`, at least 1, that 0..total falls into."""
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
