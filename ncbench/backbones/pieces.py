"""Pieces in which large work is done, so that its tensors stay small: in a cache, or in the memory that is free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


PADDING_SHARE = 64  # a group may hold padding of this part of a piece: about what a further group would cost


def group_sizes(lengths: Sequence[int], word_bytes: int, piece: int) -> list[int]:
    """Return how many captions each group takes, of captions of ascending `lengths`, one after another.

    All captions of a group are padded to its longest. A group ends before the caption with which its padded words, of
    `word_bytes` each, would pass the PADDING_SHARE-th part of `piece` bytes.
    """
    sizes: list[int] = []
    size = padding = 0
    for before, length in zip([lengths[0], *lengths], lengths, strict=False):
        padding += size * (length - before)
        if padding * word_bytes * PADDING_SHARE > piece:
            sizes.append(size)
            size = padding = 0
        size += 1
    return [*sizes, size]
