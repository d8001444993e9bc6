"""Self-attention that summarises regions or words as one unit vector (SGRAF, AAAI 2021, section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from ncbench.backbones.encoders import linear_work, xavier_linear
from ncbench.backbones.normalise import l2_normalise


class RegionSummary(nn.Module):
    """Weight regions by their product with the mean region: (I, R, E) -> (I, E).

    The batch norm of the local branch keeps statistics per region slot, which makes R part of the model.
    """

    def __init__(self, embed: int, n_regions: int, dropout: float) -> None:
        super().__init__()
        self.local_map = xavier_linear(embed, embed)
        self.local_norm = nn.BatchNorm1d(n_regions)
        self.global_map = xavier_linear(embed, embed)
        self.global_norm = nn.BatchNorm1d(embed)
        self.weigh = xavier_linear(embed, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, regions: Tensor) -> Tensor:
        """Return unit vectors (I, E) of regions (I, R, E)."""
        local = self.dropout(self.local_norm(self.local_map(regions)).tanh())
        overall = self.dropout(self.global_norm(self.global_map(regions.mean(1))).tanh())
        weights = self.weigh(local * overall[:, None]).softmax(1)
        return l2_normalise((weights * regions).sum(1))


class WordSummary(nn.Module):
    """Weight words by their product with the mean word: (C, L, E) -> (C, E). No batch norm."""

    def __init__(self, embed: int, dropout: float) -> None:
        super().__init__()
        self.local_map = xavier_linear(embed, embed)
        self.global_map = xavier_linear(embed, embed)
        self.weigh = xavier_linear(embed, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, valid: Tensor) -> Tensor:
        """Return unit vectors (C, E) of words (C, L, E), which are zero where `valid` (C, L) bool is False."""
        mean = words.sum(1) / valid.sum(1, keepdim=True)
        local = self.dropout(self.local_map(words).tanh())
        overall = self.dropout(self.global_map(mean).tanh())
        logits = self.weigh(local * overall[:, None]).squeeze(-1)
        weights = logits.masked_fill(~valid, float("-inf")).softmax(1)
        return l2_normalise((weights[..., None] * words).sum(1))


def summary_work(embed: int, items: int) -> int:
    """Return the FLOPs of summarising `items` regions or words: their maps and weights, and the map of their mean."""
    return items * (linear_work(embed, embed) + linear_work(embed, 1)) + linear_work(embed, embed)
