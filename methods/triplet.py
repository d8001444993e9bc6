"""Triplet: plain training with hardest negatives, the baseline that believes every pair.

A matched pair must beat its hardest negative in the batch by a margin, for images and for captions (VSE++: Faghri et
al., BMVC 2018; as in SGRAF: Diao et al., AAAI 2021). Training starts with the mean over all negatives, since hardest
negatives of a fresh network stall it (the warm-up that NCR, NeurIPS 2021, gives its baselines too).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncbench import Method, Optimiser, Task, TrainingSettings, losses, setting


class Triplet(Method):
    """Plain triplet training; no defence against mismatched pairs."""

    name = "triplet"
    resumes_midway = True

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        warmup: float = setting(
            0.125, "share of the budget trained on the mean of all negatives", "NCR: 5 of 40 epochs"
        )
        margin: float = setting(0.2, "by how much a pair must beat its negatives", "VSE++")

    presets = {
        "scenes": {"batch_size": 32, "lr": 0.0048, "margin": 0.33, "warmup": 0.75},
        "scenes-large": {"batch_size": 32, "lr": 2e-3},
    }

    def setup(self, task: Task) -> None:
        """Build the one backbone and its optimiser."""
        self.task = task
        self.order = task.rng("order of pairs")
        self.backbone = task.new_backbone()
        self.optimiser = Optimiser.of(self.config, [self.backbone], task.budget, decay_from=self.config.warmup)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Pass over the pairs once."""
        for batch in self.task.data.batches(self.config.batch_size, self.order, self.pairs(), keep="pairs"):
            self.backbone.train()
            similarities = self.backbone(batch.images, batch.tokens, batch.lengths)
            warming_up = self.task.budget.progress < self.config.warmup
            hinge = losses.hinge_mean if warming_up else losses.hinge_max
            loss = hinge(similarities, self.config.margin)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}

    def pairs(self) -> NDArray[np.int64] | None:
        """Return the pairs to train on; None: all."""
        return None
