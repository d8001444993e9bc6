"""VSE: one vector per image, one per caption, scored by their cosine (VSE++: Faghri et al., BMVC 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ncbench.backbones.base import Encoded, Sizes
from ncbench.backbones.encoders import gru_work, linear_work, xavier_linear
from ncbench.backbones.head import pair_head
from ncbench.backbones.normalise import l2_normalise
from ncbench.backbones.recurrent import run_gru
from ncbench.backbones.vectors import VectorBackbone


class VSE(VectorBackbone):
    """The mean region through a Linear, and the last state of a unidirectional GRU over words; both of unit length.

    VSE++ has no region input. ncbench averages the regions before the linear map, which gives the same as averaging
    after it. Similarities are cosines, in [-1, 1], unless a head scores the product of the two vectors. Captions that
    are vectors go through their own Linear instead of the GRU.
    """

    ABILITIES = frozenset({"head", "within"})
    TAKES_VECTORS = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.project: nn.Module = xavier_linear(sizes.image_dim, sizes.embed)
        if sizes.vector_dim:
            self.project_captions: nn.Module = xavier_linear(sizes.vector_dim, sizes.embed)
        else:
            self.embedding = nn.Embedding(sizes.vocabulary, sizes.word)
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            self.gru = nn.GRU(sizes.word, sizes.embed, batch_first=True)
        self.head = pair_head(sizes.embed, sizes.head) if sizes.head else None

    def _encode_images(self, images: Tensor) -> Encoded:
        return Encoded((l2_normalise(self.project(images.mean(1))),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        if self.sizes.vector_dim:
            return Encoded((l2_normalise(self.project_captions(tokens)),))
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(run_gru(self.gru, packed), batch_first=True)
        last = states[torch.arange(len(states)), lengths - 1]
        return Encoded((l2_normalise(last),))

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image."""
        return linear_work(self.sizes.image_dim, self.sizes.embed)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens."""
        if self.sizes.vector_dim:
            return linear_work(self.sizes.vector_dim, self.sizes.embed)
        return length * gru_work(self.sizes.word, self.sizes.embed, directions=1)
