"""Groups of captions of about one length, which are scored as one rectangle."""

from __future__ import annotations

from collections.abc import Sequence

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
