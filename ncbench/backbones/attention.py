"""Cross attention: every word of every caption attends to the regions of every image (SCAN, ECCV 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ncbench.backbones.normalise import l2_normalise

SMOOTH = 9.0
SLOPE = 0.1


def attend_regions(regions: Tensor, words: Tensor, valid: Tensor) -> Tensor:
    """Return what each word sees of each image: unit vectors (I, T, E), T the valid words, caption after caption.

    `regions` (I, R, E), `words` (C, L, E) with zeros where not `valid` (C, L) bool. Affinities pass a leaky ReLU, are
    normalised over the words of their caption, sharpened by 9 and softmaxed over regions (SCAN, text to image, with
    "clipped l2 norm"). All pairs take two large matrix products; padded words, being zero, do not touch the norms,
    and are dropped before the second.
    """
    n_images, n_regions, embed = regions.shape
    affinity = functional.leaky_relu(regions.reshape(-1, embed) @ words.reshape(-1, embed).T, SLOPE)
    affinity = l2_normalise(affinity.view(n_images, n_regions, *words.shape[:2]))
    attention = (SMOOTH * affinity.flatten(2)[..., valid.flatten().nonzero().squeeze(1)]).softmax(1)
    return l2_normalise(attention.transpose(1, 2) @ regions)
