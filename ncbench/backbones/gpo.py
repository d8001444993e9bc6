"""The generalised pooling operator: a learned weighted mean of sorted features (Chen et al., CVPR 2021, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from ncbench.backbones.descending import sort_descending
from ncbench.backbones.encoders import length_mask
from ncbench.backbones.recurrent import mean_states

POSITION_DIM = 32  # dimensions of a position encoding and of the GRU's state
TEMPERATURE = 0.1
PADDING_VALUE = -1e4  # sorts padding behind all features


class GPO(nn.Module):
    """Pool sets of vectors: (N, K, E) -> (N, E). Each dimension is sorted separately, largest first.

    A small bidirectional GRU over the ranks' position encodings gives the weight of each rank, so the weights depend on
    the size of the set only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(POSITION_DIM, POSITION_DIM, batch_first=True, bidirectional=True)
        self.score = nn.Linear(POSITION_DIM, 1, bias=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the pooled vectors (N, E) of `features` (N, K, E).

        Set i consists of the first `lengths[i]` vectors; `lengths` (N,) is on the CPU, and K must be its maximum. The
        weights of each distinct length are computed once.
        """
        distinct, which = torch.unique(lengths, return_inverse=True)
        weights = functional.embedding(which.to(features.device), self.weights(distinct))  # indexing: a slow gradient
        if len(distinct) > 1:
            padding = (torch.arange(features.shape[1]) >= lengths[:, None]).flatten().nonzero()[:, 0]
            rows = features.flatten(0, 1).index_fill(0, padding.to(features.device), PADDING_VALUE)
            features = rows.view_as(features)
        ordered = sort_descending(features.mT)
        return (ordered @ weights[..., None]).squeeze(2)

    def weights(self, lengths: Tensor) -> Tensor:
        """Return the weights (N, K) of the ranks in sets of `lengths` (N,), on the CPU; zero beyond each length."""
        positions = encode_positions(int(lengths.max()), like=self.score.weight).expand(len(lengths), -1, -1)
        packed = pack_padded_sequence(positions, lengths, batch_first=True, enforce_sorted=False)
        scores: Tensor = self.score(mean_states(self.gru, packed)).squeeze(-1) / TEMPERATURE
        return scores.masked_fill(~length_mask(lengths, scores), float("-inf")).softmax(-1)


def encode_positions(count: int, like: Tensor) -> Tensor:
    """Return the encodings of the first `count` positions, (count, 32): sines and cosines alternating, base 10,000."""
    frequencies = torch.exp(torch.arange(0, POSITION_DIM, 2).to(like) * (-math.log(1e4) / POSITION_DIM))
    angles = torch.arange(count).to(like)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def pooling_work(embed: int, items: int) -> int:
    """Return the FLOPs of pooling one set, a weighted mean. Sets of the same size share their weights."""
    return 2 * items * embed
