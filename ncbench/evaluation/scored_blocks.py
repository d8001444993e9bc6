"""Similarities of a split by networks, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from ncbench.backbones.base import Backbone
from ncbench.backbones.pieces import spans
from ncbench.data.dataset import FloatArray, IntVector, Split
from ncbench.evaluation.blocks import Block, Blocks
from ncbench.evaluation.scoring import Limits, caption_chunks, encode_images, evaluating, parts_of, scorer, thread_map
from ncbench.evaluation.similarity import directly

MAX_MATRIX_BYTES = 2**30
"""Similarities up to this size are held as a matrix, which is scored once; larger ones are scored twice, in blocks."""

BLOCK_BYTES = 2**24
"""Of the scores in a block. They are read several times, so they had better stay in a cache."""


def too_large(split: Split) -> bool:
    """Return whether the similarities of a split are scored in blocks."""
    return len(split.images) * len(split.captions) * np.dtype(np.float32).itemsize > MAX_MATRIX_BYTES


def times_scored(split: Split) -> int:
    """Return how often the similarities of a split are computed in an evaluation."""
    return 2 if too_large(split) else 1


class ScoredBlocks(Blocks):
    """The similarities of a split, averaged over `backbones`, a block at a time: those of `similarity_matrix`.

    Where several networks do not fit into memory together as each of them would alone, blocks are smaller, which may
    change the last bits. `combine` averages the scores of a block by all networks. `between` is called after each group
    of blocks, and may raise an exception. `call` as in `similarity_matrix`. Raises UserError as `similarity_matrix`.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        split: Split,
        device: torch.device,
        between: Callable[[], object] = lambda: None,
        call: Callable[..., Any] = directly,
        combine: Callable[[Sequence[FloatArray]], FloatArray] | None = None,
    ) -> None:
        self.shape = (len(split.images), len(split.captions))
        self._backbones, self._split, self._device = backbones, split, device
        self._between, self._call, self._combine = between, call, combine or _mean
        # Fixed here: memory that is free later must not change how blocks are cut, and so how they are rounded.
        self._limits = Limits.of(backbones, device)
        self._chunks = call(lambda: list(caption_chunks(backbones, split, self._limits)))

    def __iter__(self) -> Iterator[Block]:
        blocks = self._call(self._scored)
        try:
            while (found := self._call(next, blocks, None)) is not None:
                rows, chosen, scores = found
                yield Block(np.arange(rows.start, rows.stop), chosen, self._combine(scores))
                self._between()
        finally:
            self._call(blocks.close)

    @torch.no_grad()
    def _scored(self) -> Iterator[tuple[slice, IntVector, list[FloatArray]]]:
        split, limits, backbones = self._split, self._limits, self._backbones
        with ExitStack() as stack:
            for backbone in backbones:
                stack.enter_context(evaluating(backbone))
            apply = stack.enter_context(thread_map(limits.threads))
            for rows in spans(self.shape[0], limits.images):
                encoded = [encode_images(backbone, split, rows, self._device) for backbone in backbones]
                for chosen in self._chunks:
                    scores_of_image = len(chosen) * np.dtype(np.float32).itemsize
                    most = max(1, BLOCK_BYTES // scores_of_image)
                    parts = parts_of(backbones, split, rows.stop - rows.start, chosen, limits, most)
                    scorers = [
                        scorer(backbone, split, images, chosen, self._device)
                        for backbone, images in zip(backbones, encoded, strict=True)
                    ]
                    by_network = [apply(scorer, parts) for scorer in scorers]
                    for part, *scores in zip(parts, *by_network, strict=True):
                        yield slice(rows.start + part.start, rows.start + part.stop), chosen, scores


def _mean(scores: Sequence[FloatArray]) -> FloatArray:
    """Return the mean, in the order of operations of `similarity_matrix`."""
    if len(scores) == 1:
        return scores[0]
    total = np.zeros_like(scores[0])
    for each in scores:
        total += each
    total /= np.float32(len(scores))
    return total
