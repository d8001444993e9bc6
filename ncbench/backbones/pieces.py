"""Splitting large computations into pieces whose tensors fit into a CPU cache, or into device memory.

`piece_bytes` is the size to aim for, `spans` cuts a range of items by it, and `group_sizes` groups captions of about
the same length so that little of a piece is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

CPU_BYTES = 4 * 2**20  # of the largest tensor of a piece: a core's share of the last-level cache
DEVICE_BYTES = 512 * 2**20  # enough to keep a GPU busy

PADDING_SHARE = 1 / 64
"""How much of a piece a group may spend on padding: about the cost of one more group."""


def piece_bytes(device: torch.device) -> int:
    """Return the bytes that the largest tensor of a piece should take on `device`."""
    return CPU_BYTES if device.type == "cpu" else DEVICE_BYTES


def spans(total: int, size: int) -> Iterator[slice]:
    """Return an iterator over the slices that cover 0..total, each of at most max(1, `size`) items."""
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def group_sizes(lengths: Sequence[int], word_bytes: int, piece: int) -> list[int]:
    """Return the sizes of consecutive groups of captions, whose `lengths` ascend.

    The captions of a group are padded to its longest. A group ends before the caption that would bring its padding,
    `word_bytes` per word, above PADDING_SHARE of `piece` bytes.
    """
    sizes: list[int] = []
    size = padding = 0
    for before, length in zip([lengths[0], *lengths], lengths, strict=False):
        padding += size * (length - before)
        if padding * word_bytes > PADDING_SHARE * piece:
            sizes.append(size)
            size = padding = 0
        size += 1
    return [*sizes, size]
