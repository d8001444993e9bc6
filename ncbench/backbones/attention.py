"""Cross attention: every word of every caption attends to the regions of every image (SCAN, ECCV 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ncbench.backbones.normalise import l2_normalise

SMOOTH = 9.0
SLOPE = 0.1


def region_attention(regions: Tensor, words: Tensor, exist: Tensor | None = None) -> Tensor:
    """Return how each word attends to the regions of each image: (I, C L, R), which sums to 1 over R.

    `regions` (I, R, E), `words` (C, L, E) with zeros in the padding. Affinities pass a leaky ReLU, are normalised over
    the words of their caption, sharpened by 9 and softmaxed over regions (SCAN, text to image, with "clipped l2 norm").
    All pairs take one matrix product; padded words, being zero, do not touch the norms. Regions that do not `exist`
    (I, R), bool, are not attended to; None: all do.
    """
    affinity = regions.flatten(0, 1) @ words.flatten(0, 1).T
    return _sharpened(affinity.view(*regions.shape[:2], *words.shape[:2]), exist).flatten(2).transpose(1, 2)


def own_attention(regions: Tensor, words: Tensor) -> Tensor:
    """Return how the words of caption i attend to the regions of image i: (n, L, R), of (n, R, E) and (n, L, E)."""
    return _sharpened(regions @ words.transpose(1, 2)).transpose(1, 2)


def _sharpened(affinity: Tensor, exist: Tensor | None = None) -> Tensor:
    """Return attention (n, R, ..., L) from affinities of this shape."""
    logits = SMOOTH * l2_normalise(functional.leaky_relu(affinity, SLOPE))
    if exist is not None:
        logits = logits.masked_fill(~exist[..., None, None], float("-inf"))
    return logits.softmax(1)
