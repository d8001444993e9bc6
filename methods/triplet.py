"""Triplet: plain training with hardest negatives, the baseline that trusts every pair.

A matched pair must beat its hardest negative in the batch by a margin, for images and for captions (VSE++: Faghri et
al., BMVC 2018; as in SGRAF: Diao et al., AAAI 2021). Training starts with the mean over all negatives, as the hardest
negatives of a fresh network stall it (NCR, NeurIPS 2021, warms up its baselines in the same way).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ncbench import Batch, SingleNetwork, TrainingSettings, losses, setting


class Triplet(SingleNetwork):
    """Plain triplet training; no defence against mismatched pairs."""

    name = "triplet"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        warmup: float = setting(
            0.125, "share of the budget trained on the mean of all negatives", "NCR: 5 of 40 epochs"
        )
        margin: float = setting(0.2, "by how much a pair must beat its negatives", "VSE++")

    presets = {
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0032, "warmup": 0.68, "margin": 0.36},
        "scenes-large": {"lr": 1e-3},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the hinge loss of a batch: over all negatives in warm-up, over the hardest ones afterwards."""
        hinge = losses.hinge_mean if self.warming_up else losses.hinge_max
        return hinge(similarities, self.config.margin)
