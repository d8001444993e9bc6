"""The generalised pooling operator: a learned weighted mean of sorted features (Chen et al., CVPR 2021, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ncbench.backbones.encoders import inside, mean_of_directions

POSITION = 32  # dimensions of a position, and of the state that reads it
TEMPERATURE = 0.1
LAST = -1e4  # what padding counts as while features are sorted


class GPO(nn.Module):
    """Pools sets of vectors: (N, K, E) -> (N, E), each dimension sorted on its own, largest first.

    The weight of a rank is made from its position by a small bidirectional GRU that runs over all ranks of the set,
    so that it depends on the size of the set only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(POSITION, POSITION, batch_first=True, bidirectional=True)
        self.score = nn.Linear(POSITION, 1, bias=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the pooled vectors (N, E) of `features` (N, K, E), of which `lengths` (N,), on the CPU, are true.

        K must be the longest of `lengths`. Every distinct length is weighted once.
        """
        distinct, which = torch.unique(lengths, return_inverse=True)
        weights = self.weights(distinct)[which.to(features.device)]
        exist = inside(lengths, features)
        ordered = features.masked_fill(~exist[..., None], LAST).sort(dim=1, descending=True).values
        return (weights[:, None] @ ordered).squeeze(1)

    def weights(self, lengths: Tensor) -> Tensor:
        """Return the weights (N, K) of the ranks in sets of `lengths` (N,), on the CPU; zero beyond each."""
        positions = encode_positions(int(lengths.max()), like=self.score.weight).expand(len(lengths), -1, -1)
        packed = pack_padded_sequence(positions, lengths, batch_first=True, enforce_sorted=False)
        states = mean_of_directions(pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0])
        scores: Tensor = self.score(states).squeeze(-1) / TEMPERATURE
        return scores.masked_fill(~inside(lengths, scores), float("-inf")).softmax(-1)


def encode_positions(count: int, like: Tensor) -> Tensor:
    """Return the first `count` positions (count, 32): sines in even, cosines in odd dimensions, base 10,000."""
    frequencies = torch.exp(torch.arange(0, POSITION, 2).to(like) * (-math.log(1e4) / POSITION))
    angles = torch.arange(count).to(like)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def pooling_work(embed: int, items: int) -> int:
    """Return the FLOPs of pooling one set: a weighted mean. Its weights are shared by all sets of the same size."""
    return 2 * items * embed
