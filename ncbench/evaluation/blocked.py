"""Ranks and retrieved items from blocks of similarities: the same as from the whole matrix, which is never held.

Blocks are read twice. The first time, the scores of true pairs are picked; the second time, the scores that are at
least as high are counted. Besides a block, memory grows with the number of images and captions, not with their product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ncbench.data.dataset import FloatArray, IntVector
from ncbench.evaluation.best_so_far import BestSoFar
from ncbench.evaluation.blocks import Block, Blocks
from ncbench.evaluation.fitting import FittingRanks, ranks_among
from ncbench.evaluation.retrieval import Ranks, check_finite, check_folds, check_true
from ncbench.evaluation.top_k import Retrieved

_PART_ELEMENTS = 1 << 18  # compared at a time: a megabyte, which stays in the cache for all comparisons


class Groups:
    """Numbers 0, 1, ... grouped by their keys in [0, stop): `of(keys)` finds those of some keys."""

    def __init__(self, keys: IntVector, stop: int) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=stop))])

    def of(self, keys: IntVector) -> tuple[IntVector, IntVector]:
        """Return all members of `keys` (n,), each after the place of its key in `keys`: (members,) int64 both."""
        starts = self._starts[keys]
        counts = self._starts[keys + 1] - starts
        ends = np.cumsum(counts)
        places = np.repeat(np.arange(len(keys)), counts)
        inside = np.arange(int(counts.sum())) + np.repeat(starts - ends + counts, counts)
        return places, self._order[inside]


@dataclass(frozen=True)
class Pairs:
    """Pairs of `captions` and `images` (pairs,), whose scores are looked for, or compared with."""

    captions: IntVector
    images: IntVector
    by_caption: Groups
    by_image: Groups

    @classmethod
    def of(cls, captions: IntVector, images: IntVector, shape: tuple[int, int]) -> Pairs:
        """Return pairs within similarities (images, captions) of `shape`."""
        return cls(captions, images, Groups(captions, shape[1]), Groups(images, shape[0]))


def pick(blocks: Blocks, *wanted: Pairs) -> list[FloatArray]:
    """Return the score of every pair, a vector (pairs,) float32 for each of `wanted`.

    Raises ArgumentError if a score is NaN or infinite.
    """
    found = [np.full(len(pairs.captions), np.nan, np.float32) for pairs in wanted]
    rows = np.full(blocks.shape[0], -1)  # of the images of a block
    for block in blocks:
        check_finite(block.scores)
        rows[block.images] = np.arange(len(block.images))
        for pairs, values in zip(wanted, found, strict=True):
            columns, members = pairs.by_caption.of(block.captions)
            inside = rows[pairs.images[members]]
            here = inside >= 0
            values[members[here]] = block.scores[inside[here], columns[here]]
        rows[block.images] = -1
    return found


def cut(block: Block) -> Iterator[Block]:
    """Yield parts of a block that fit into a cache."""
    step = max(1, _PART_ELEMENTS // max(1, len(block.captions)))
    for start in range(0, len(block.images), step):
        rows = slice(start, start + step)
        yield Block(block.images[rows], block.captions, block.scores[rows])


class Receiver(Protocol):
    """Receives all scores, a part of a block at a time."""

    def add(self, part: Block) -> None:
        """Receive some scores."""
        ...


class AtLeast:
    """Counts how many scores are at least as high as those of true pairs: `i2t` (images,) and `t2i` (captions,).

    With `folds` above 1, only images and captions of the same fold are compared. An image is compared with its `best`
    caption, -inf without one.
    """

    def __init__(self, shape: tuple[int, int], true: IntVector, own: FloatArray, folds: int = 1) -> None:
        self._true, self._own, self._folds = true, own, folds
        self._size = shape[0] // folds
        self.best = np.full(shape[0], -np.inf, np.float32)
        np.maximum.at(self.best, true, own)
        self.i2t, self.t2i = np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)

    def add(self, part: Block) -> None:
        """Receive some scores."""
        for_images = part.scores >= self.best[part.images, None]
        for_captions = part.scores >= self._own[part.captions]
        if self._folds > 1:
            inside = part.images[:, None] // self._size == self._true[part.captions] // self._size
            for_images, for_captions = for_images & inside, for_captions & inside
        self.i2t[part.images] += np.count_nonzero(for_images, axis=1)
        self.t2i[part.captions] += np.count_nonzero(for_captions, axis=0)

    def ranks(self) -> Ranks:
        """Return the ranks, a vector per fold, after all scores."""
        n_images = len(self.best)
        equal = self._own == self.best[self._true]
        i2t = self.i2t - np.bincount(self._true[equal], minlength=n_images)
        with_captions = np.bincount(self._true, minlength=n_images) > 0
        starts = range(0, n_images, self._size)
        images = [slice(start, start + self._size) for start in starts]
        return Ranks(
            tuple(i2t[fold][with_captions[fold]] for fold in images),
            # The caption's own image was counted too.
            tuple(self.t2i[self._true // self._size == number] - 1 for number, _ in enumerate(starts)),
        )


class Ties:
    """Counts the images that score exactly as high for a caption as its own, which is one of them: `equal`."""

    def __init__(self, own: FloatArray) -> None:
        self._own, self.equal = own, np.zeros(len(own), np.int64)

    def add(self, part: Block) -> None:
        """Receive some scores."""
        width = len(part.captions)
        columns = np.flatnonzero(part.scores == self._own[part.captions]) % width  # few, unless many tie
        self.equal[part.captions] += np.bincount(columns, minlength=width)


class Best:
    """Keeps the best `depth` captions of each image, and images of each caption."""

    def __init__(self, shape: tuple[int, int], true: IntVector, depth: int) -> None:
        self._true = true
        self._i2t, self._t2i = BestSoFar(shape[0], min(depth, shape[1])), BestSoFar(shape[1], min(depth, shape[0]))

    def add(self, part: Block) -> None:
        """Receive some scores."""
        images, owners = part.images, self._true[part.captions]
        self._i2t.add(images, part.captions, np.concatenate([images, owners]), part.scores)
        self._t2i.add(part.captions, images, np.concatenate([owners, images]), part.scores.T)

    def retrieved(self) -> Retrieved:
        """Return what was retrieved, after all scores."""
        return Retrieved(self._i2t.items, self._t2i.items, self._true)


class FittingAtLeast:
    """Counts how many scores are at least as high as those of fitting pairs: `i2t` and `t2i`, both (pairs,)."""

    def __init__(self, pairs: Pairs, own: FloatArray) -> None:
        self._pairs, self._own = pairs, own
        self.i2t, self.t2i = np.zeros(len(own), np.int64), np.zeros(len(own), np.int64)

    def add(self, part: Block) -> None:
        """Receive some scores."""
        rows, pairs = self._pairs.by_image.of(part.images)
        step = max(1, _PART_ELEMENTS // len(part.captions))
        for some in (slice(start, start + step) for start in range(0, len(pairs), step)):
            at_least = part.scores[rows[some]] >= self._own[pairs[some], None]
            self.i2t[pairs[some]] += np.count_nonzero(at_least, axis=1)
        columns, pairs = self._pairs.by_caption.of(part.captions)
        step = max(1, _PART_ELEMENTS // len(part.images))
        for some in (slice(start, start + step) for start in range(0, len(pairs), step)):
            at_least = part.scores[:, columns[some]] >= self._own[pairs[some]]
            self.t2i[pairs[some]] += np.count_nonzero(at_least, axis=0)

    def ranks(self) -> FittingRanks:
        """Return the ranks after all scores."""
        captions, images = self._pairs.captions, self._pairs.images
        i2t, t2i = ranks_among(images, self._own, self.i2t), ranks_among(captions, self._own, self.t2i)
        return FittingRanks(captions, images, i2t, t2i)


def rank_blocks(blocks: Blocks, true: IntVector, folds: int = 1) -> Ranks:
    """Return what `rank` returns for the matrix of these blocks. Raises ArgumentError as `rank`."""
    pairs = own_pairs(blocks, true, folds)
    (own,) = pick(blocks, pairs)
    counts = AtLeast(blocks.shape, true, own, folds)
    for block in blocks:
        for part in cut(block):
            counts.add(part)
    return counts.ranks()


def own_pairs(blocks: Blocks, true: IntVector, folds: int) -> Pairs:
    """Return the captions with their own images. Raises ArgumentError unless they fit the blocks and the folds."""
    check_true(true, blocks.shape)
    check_folds(true, blocks.shape[0], folds)
    return Pairs.of(np.arange(len(true)), true, blocks.shape)
