"""Cross attention: every word of every caption attends to the regions of every image (SCAN, ECCV 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ncbench.backbones.normalise import l2_normalise

SHARPNESS = 9.0  # of the softmax over regions
LEAKY_SLOPE = 0.1


def region_attention(regions: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the attention of each word over the regions of each image: (I, C L, R), which sums to 1 over R.

    `regions` (I, R, E), `words` (C, L, E) with zeros in the padding. Affinities pass a leaky ReLU, are normalised over
    the words of their caption, multiplied by 9 and softmaxed over regions (SCAN, text to image, "clipped l2 norm").
    All pairs are computed in one matrix product; padded words are zero and do not affect the norms. `mask` (I, R) bool
    is True for regions to attend to (None: all).
    """
    affinity = regions.flatten(0, 1) @ words.flatten(0, 1).T
    return _attend(affinity.view(*regions.shape[:2], *words.shape[:2]), mask).flatten(2).transpose(1, 2)


def own_attention(regions: Tensor, words: Tensor) -> Tensor:
    """Return the attention of the words of caption i, (n, L, E), over the regions of image i, (n, R, E): (n, L, R)."""
    return _attend(regions @ words.transpose(1, 2)).transpose(1, 2)


def _attend(affinity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the attention over dimension 1 from affinities (n, R, ..., L), in the same shape."""
    logits = SHARPNESS * l2_normalise(functional.leaky_relu(affinity, LEAKY_SLOPE))
    if mask is not None:
        logits = logits.masked_fill(~mask[..., None, None], float("-inf"))
    return logits.softmax(1)
