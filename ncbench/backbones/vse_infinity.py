"""VSE-infinity: one vector per image and per caption, pooled by learned operators (Chen et al., CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ncbench.backbones.base import Encoded, Sizes
from ncbench.backbones.encoders import WordStates, gru_work, linear_work, xavier_linear
from ncbench.backbones.gpo import GPO, pooling_work
from ncbench.backbones.head import pair_head
from ncbench.backbones.normalise import l2_normalise
from ncbench.backbones.vectors import VectorBackbone


class RegionMaps(nn.Module):
    """A linear map plus a two-layer perceptron for each region: (I, R, D) -> (I, R, E).

    The batch norm treats all regions of all images as one batch. The published network also creates a second batch
    norm, as wide as the output, but does not use it; it is omitted.
    """

    def __init__(self, image_dim: int, embed: int) -> None:
        super().__init__()
        hidden = hidden_width(embed)
        self.project = xavier_linear(image_dim, embed)
        self.expand = nn.Linear(image_dim, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.contract = nn.Linear(hidden, embed)

    def forward(self, images: Tensor) -> Tensor:
        """Return vectors (I, R, E) of region features (I, R, D)."""
        rows = images.flatten(0, 1)
        mapped: Tensor = self.project(rows) + self.contract(self.norm(self.expand(rows)).relu())
        return mapped.view(*images.shape[:2], -1)


class VSEInfinity(VectorBackbone):
    """Regions through a linear map and a perceptron, words through a bidirectional GRU; both pooled, to unit length.

    This is the variant with a GRU, as trained by CRCL (NeurIPS 2023), not the one with BERT; there is no dropout.
    Similarities are cosines, in [-1, 1], unless a head scores the product of the two vectors. The cost formulas omit
    what does not grow with the batch: an encoder computes pooling weights once per distinct number of regions or words
    (see `gpo`). Captions that are vectors go through maps like those of regions, without pooling.
    """

    ABILITIES = frozenset({"head", "within"})
    TAKES_VECTORS = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.image_encoder = RegionMaps(sizes.image_dim, sizes.embed)
        self.image_pool = GPO()
        if sizes.vector_dim:
            self.caption_maps = RegionMaps(sizes.vector_dim, sizes.embed)
        else:
            self.caption_encoder = WordStates(sizes.vocabulary, sizes.word, sizes.embed, dropout=0.0)
            self.caption_pool = GPO()
        self.head = pair_head(sizes.embed, sizes.head) if sizes.head else None

    def _encode_images(self, images: Tensor) -> Encoded:
        n_regions = torch.full((len(images),), images.shape[1])
        return Encoded((l2_normalise(self.image_pool(self.image_encoder(images), n_regions)),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        if self.sizes.vector_dim:
            return Encoded((l2_normalise(self.caption_maps(tokens[:, None])[:, 0]),))
        return Encoded((l2_normalise(self.caption_pool(self.caption_encoder(tokens, lengths), lengths)),))

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image: three maps of its regions, and the mean."""
        maps = maps_work(self.sizes.image_dim, self.sizes.embed)
        return n_regions * maps + pooling_work(self.sizes.embed, n_regions)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens: a GRU in two directions, and the mean."""
        embed = self.sizes.embed
        if self.sizes.vector_dim:
            return maps_work(self.sizes.vector_dim, embed)
        return length * gru_work(self.sizes.word, embed, directions=2) + pooling_work(embed, length)


def maps_work(inputs: int, embed: int) -> int:
    """Return the FLOPs of `RegionMaps` for one region."""
    hidden = hidden_width(embed)
    return linear_work(inputs, embed) + linear_work(inputs, hidden) + linear_work(hidden, embed)


def hidden_width(embed: int) -> int:
    """Return the width of the perceptron's hidden layer: half of its output, rounded up."""
    return (embed + 1) // 2
