"""Scores dev and test where a method may look on: without the truth, under numbers of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ncbench.backbones.base import Backbone
from ncbench.data.dataset import IntVector, Split
from ncbench.evaluation.blocks import Block, Blocks, Scored
from ncbench.evaluation.scored_blocks import ScoredBlocks, too_large
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.evaluation.unfinished import Unfinished
from ncbench.training.numbering import Numbering, inverse
from ncbench.training.seclusion import Secluded


def score_blindly(
    method: Secluded,
    backbones: Sequence[Backbone],
    split: Split,
    device: torch.device,
    noise_digest: str,
    unfinished: Unfinished | None = None,
) -> Scored:
    """Return the similarities (images, captions) of `split`, as `similarity_matrix` does, in the thread of `method`.

    Those of large splits are blocks, which are scored when they are read. `unfinished` keeps no blocks, but can
    interrupt reading them.

    A method can put code into its networks. What this sees are images and captions in an order of their own: that of
    `Numbering`, which nobody can guess without the noise. It is the same in every evaluation of a run, as other batches
    would round differently.
    """
    numbering = Numbering.draw(len(split.captions), len(split.images), 0, noise_digest)
    images, captions = numbering.images, numbering.captions
    shown = replace(
        split,
        images=split.images.reordered(images),
        captions=split.captions.reordered(captions),
        true=np.zeros_like(split.true),
    )
    if too_large(split):
        between = unfinished.check if unfinished is not None else lambda: None
        return Renumbered(ScoredBlocks(backbones, shown, device, between, method.call), images, captions)
    scored = similarity_matrix(backbones, shown, device, unfinished, method.call)
    return scored[np.ix_(inverse(images), inverse(captions))]


class Renumbered(Blocks):
    """Blocks with other numbers: image i of `blocks` is image `images[i]` of these, and captions alike."""

    def __init__(self, blocks: Blocks, images: IntVector, captions: IntVector) -> None:
        self.shape = blocks.shape
        self._blocks, self._images, self._captions = blocks, images, captions

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            yield Block(self._images[block.images], self._captions[block.captions], block.scores)
