"""Encoders shared by backbones: a linear map of regions and a recurrent network over words, initialised as published.

The cost functions count matrix products only; a multiply-add is two operations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from ncbench.backbones.normalise import l2_normalise
from ncbench.backbones.recurrent import mean_states


def xavier_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a Linear with weights U(-r, r), r = sqrt(6 / (inputs + outputs)), and zero bias."""
    layer = nn.Linear(inputs, outputs)
    bound = math.sqrt(6 / (inputs + outputs))
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


def linear_work(inputs: int, outputs: int) -> int:
    """Return the FLOPs of a Linear for one row."""
    return 2 * inputs * outputs


def gru_work(inputs: int, hidden: int, directions: int) -> int:
    """Return the FLOPs of a one-layer GRU for one token: three gates of input and state per direction."""
    return directions * 3 * (linear_work(inputs, hidden) + linear_work(hidden, hidden))


class RegionEncoder(nn.Module):
    """Map each region to a unit vector in the joint space: (I, R, D) -> (I, R, E). SCAN (ECCV 2018), eq. 1."""

    def __init__(self, image_dim: int, embed: int) -> None:
        super().__init__()
        self.project = xavier_linear(image_dim, embed)

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (I, R, E) of region features (I, R, D)."""
        return l2_normalise(self.project(images))


class WordStates(nn.Module):
    """Bidirectional GRU over word embeddings, directions averaged: (C, L) -> (C, L, E). SCAN (ECCV 2018), eq. 4-6.

    Padded positions are exactly zero.
    """

    def __init__(self, vocabulary: int, word: int, embed: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, word)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(word, embed, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return states (C, L, E) of word ids (C, L); `lengths` (C,) on the CPU, L is the longest of them."""
        words = self.dropout(self.embedding(tokens))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        return mean_states(self.gru, packed)


class WordEncoder(WordStates):
    """Word states of unit length. The padding is zero, which cross attention relies on."""

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return unit vectors (C, L, E) of word ids (C, L); `lengths` (C,) on the CPU."""
        return l2_normalise(super().forward(tokens, lengths))


def length_mask(lengths: Tensor, like: Tensor, longest: int | None = None) -> Tensor:
    """Return a mask (C, longest) bool on the device of `like`: True for the first `lengths` (C,) positions of each row.

    `longest` defaults to the second dimension of `like`.
    """
    positions = torch.arange(like.shape[1] if longest is None else longest)
    return (positions < lengths[:, None]).to(like.device)
