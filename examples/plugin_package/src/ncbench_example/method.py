"""Soft margin: a triplet loss without a kink.

The hinge of triplet training is zero once a pair beats its negatives by the margin. Its smooth form, log(1 + exp(x)),
never is, and every negative of the batch counts (as in N-pair training: Sohn, NeurIPS 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ncbench import Batch, SingleNetwork, TrainingSettings, setting


class SoftMargin(SingleNetwork):
    """Triplet training with a smooth margin over all negatives; no defence against mismatched pairs."""

    name = "soft-margin"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters, in addition to the batch_size, lr, decay_every and clip of TrainingSettings."""

        tau: float = setting(0.1, "similarity over which the margin is smoothed", "a first guess", above=0)

    presets = {
        "scenes": {"lr": 1e-3},
        "dots": {"batch_size": 32, "lr": 1e-2},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return soft_margin(similarities, self.config.tau)


def soft_margin(S: Tensor, tau: float) -> Tensor:
    """Return the mean of log(1 + exp((S_ij - S_ii) / tau)) and of the same with S_jj, over all i and j that differ.

    S is (B images, B captions), B > 1; the pairs of the batch are on its diagonal.
    """
    others = ~torch.eye(len(S), dtype=torch.bool, device=S.device)
    matched = S.diagonal()
    cost = softplus((S - matched[:, None]) / tau) + softplus((S - matched[None, :]) / tau)
    return cost[others].mean()
