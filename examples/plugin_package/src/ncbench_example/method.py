"""Soft margin: a triplet loss without a kink.

The hinge of triplet training stops pulling as soon as a pair beats its negatives by the margin; its smooth form,
log(1 + exp(x)), never quite does, and every negative of the batch counts (as in N-pair training: Sohn, NeurIPS 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ncbench import Method, Optimiser, Task, TrainingSettings, setting


class SoftMargin(Method):
    """Triplet training with a smooth margin over all negatives; no defence against mismatched pairs."""

    name = "soft-margin"
    resumes_midway = True  # batches are taken with `keep`

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters: batch_size, lr, decay_every and clip come with TrainingSettings."""

        tau: float = setting(0.1, "similarity over which the margin is smoothed", "a first guess", above=0)

    presets = {
        "scenes": {"batch_size": 32, "lr": 2e-3},
        "dots": {"batch_size": 32, "lr": 1e-2},
    }

    def setup(self, task: Task) -> None:
        """Build the one backbone and its optimiser."""
        self.task = task
        self.order = task.rng("order of pairs")
        self.backbone = task.new_backbone()
        self.optimiser = Optimiser.of(self.config, [self.backbone], task.budget)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Pass over the pairs once."""
        for batch in self.task.data.batches(self.config.batch_size, self.order, keep="pairs"):
            self.backbone.train()
            loss = soft_margin(self.backbone(batch.images, batch.tokens, batch.lengths), self.config.tau)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}


def soft_margin(S: Tensor, tau: float) -> Tensor:
    """Return the mean of log(1 + exp((S_ij - S_ii) / tau)) and of the same with S_jj, over all i and j that differ.

    S is (B images, B captions), B > 1; the pairs of the batch are on its diagonal.
    """
    others = ~torch.eye(len(S), dtype=torch.bool, device=S.device)
    matched = S.diagonal()
    cost = softplus((S - matched[:, None]) / tau) + softplus((S - matched[None, :]) / tau)
    return cost[others].mean()
