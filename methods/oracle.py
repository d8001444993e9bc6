"""Oracle: triplet training that sees which pairs are mismatched, and leaves them out.

This is impossible outside a benchmark, so oracle is a reference, not a contestant. It shows what a method could reach
that finds every mismatched pair and gains nothing from them. A method that scores higher makes use of mismatched pairs.

Settings, loss and schedule are those of `triplet`. An epoch is one pass over the clean pairs, so the budget pays for
more epochs of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ncbench import Batch, SingleNetwork, Task, TrainingSettings, UserError, losses, setting


class Oracle(SingleNetwork):
    """Triplet training on the truly clean pairs only; a reference, as it sees which those are."""

    name = "oracle"
    needs_truth = True

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        warmup: float = setting(
            0.125, "share of the budget trained on the mean of all negatives", "NCR: 5 of 40 epochs"
        )
        margin: float = setting(0.2, "by how much a pair must beat its negatives", "VSE++")

    presets = {
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0031, "warmup": 0.38, "margin": 0.36},
        "scenes-large": {"lr": 1e-3},
    }

    def setup(self, task: Task) -> None:
        """Build the network and find the clean pairs. Raises UserError if there are fewer than two."""
        if task.truth is None:
            raise ValueError("oracle needs to know which pairs are clean, but task.truth is None")
        super().setup(task)
        self.clean = np.flatnonzero(task.truth)
        if len(self.clean) < 2:
            raise UserError(f"oracle needs at least two clean pairs, found {len(self.clean)}; lower --noise.")

    def pairs(self) -> NDArray[np.int64]:
        """Return the clean pairs."""
        return self.clean

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the hinge loss of a batch: over all negatives in warm-up, over the hardest ones afterwards."""
        hinge = losses.hinge_mean if self.warming_up else losses.hinge_max
        return hinge(similarities, self.config.margin)
