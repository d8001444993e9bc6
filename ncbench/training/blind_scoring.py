"""Scores dev and test where a method may look on: without the truth, under numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ncbench.backbones.base import Backbone
from ncbench.data.dataset import FloatArray, Split
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.evaluation.unfinished import Unfinished
from ncbench.runtime.seeds import derive_rng
from ncbench.training.seclusion import Secluded

NUMBERING = 0
"""The seed of the numbers. They do not change from one evaluation to the next, as batches round differently."""


def score_blindly(
    method: Secluded,
    backbones: Sequence[Backbone],
    split: Split,
    device: torch.device,
    unfinished: Unfinished | None = None,
) -> FloatArray:
    """Return the similarities (images, captions) of `split`, as `similarity_matrix` does, in the thread of `method`.

    A method can put code into its networks. What this sees are images and captions in an order of their own.
    """
    images, captions = (
        derive_rng(NUMBERING, "numbers of", what, str(count)).permutation(count)
        for what, count in (("images", len(split.images)), ("captions", len(split.captions)))
    )
    shown = replace(
        split,
        images=split.images.reordered(images),
        captions=split.captions.reordered(captions),
        true=np.zeros_like(split.true),
    )
    scored = similarity_matrix(backbones, shown, device, unfinished, method.call)
    return scored[np.ix_(np.argsort(images), np.argsort(captions))]
