"""Co-teaching: two networks that pick the pairs of small loss for each other (Han et al., NeurIPS 2018).

Networks learn clean pairs first, so pairs of small loss are more likely clean. In every batch, each network picks the
share of pairs with the smallest losses, and the other one trains on them, so that neither confirms its own mistakes.
The share falls from 1 to 1 - `forget` early in training. There are no mixtures and no labels: NCR and BiCro, which are
built on the same idea, add those.

Departures from the released code:

* It classifies images. Here the loss of a pair is that of `infonce`: cross-entropy over the captions of the batch for
  its image, and over the images for its caption. All pairs of the batch are candidates, as all classes are there.
* The released code takes the true share of mismatched pairs as `forget`. A method cannot know it here: it is a setting,
  the same at any noise ratio.
* Schedules are shares of the budget. The released code keeps the learning rate and then decays it linearly to zero;
  here it is cut as in `infonce`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench import Method, Optimiser, Task, TrainingSettings, losses, setting


class CoTeaching(Method):
    """Two networks; each trains on the pairs of a batch that the other one finds easiest."""

    name = "coteaching"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the paper has none for image-text data."""

        tau: float = setting(0.05, "temperature of the softmax, in units of similarity", "as infonce", above=0)
        forget: float = setting(
            0.2,
            "share of a batch that is not trained on in the end",
            "the paper uses the true share of noise",
            at_least=0,
            at_most=0.9,
        )
        gradual: float = setting(
            0.05,
            "share of the budget in which the forgotten share grows",
            "10 of 200 epochs in the experiments of the paper",
            at_least=0,
        )

    presets = {
        "coco": {"decay_every": 1 / 3},  # as infonce
        "cc152k": {"decay_every": 0.4},
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0017, "forget": 0.25, "gradual": 0.59},
        "scenes-large": {"lr": 1e-3},
    }

    def setup(self, task: Task) -> None:
        """Build two networks with different initial weights, and an optimiser for each."""
        self.task = task
        self.order = task.rng("order of pairs")
        self.networks = [task.new_backbone() for _ in "AB"]
        self.optimisers = [Optimiser.of(self.config, [network], task.budget) for network in self.networks]
        self.picked = np.full((2, len(task.data)), np.nan)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Pass over all pairs once. Both networks see the same batches."""
        for batch in self.task.data.batches(self.config.batch_size, self.order):
            kept = self._kept(len(batch))
            found = [pair_entropies(network.train()(*batch.inputs), self.config.tau) for network in self.networks]
            picks = [smallest(losses_of.detach(), kept) for losses_of in found]
            for learner, optimiser in enumerate(self.optimisers):
                optimiser.step(found[learner][picks[1 - learner]].mean())
                self.picked[learner, batch.pairs] = 0.0
                self.picked[learner, batch.pairs[picks[learner].cpu().numpy()]] = 1.0
            yield {"loss": sum(one.mean().item() for one in found) / 2, "share_kept": kept / len(batch)}

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Return how many of both networks picked a pair when they last saw it, halved, (pairs,); None at first."""
        return None if np.isnan(self.picked).all() else np.nan_to_num(self.picked, nan=1.0).mean(0)

    def _kept(self, size: int) -> int:
        """Return how many pairs of a batch train now."""
        gradual = self.config.gradual
        grown = min(1.0, self.task.budget.progress / gradual) if gradual else 1.0
        return max(1, int((1 - self.config.forget * grown) * size))


def pair_entropies(S: Tensor, tau: float) -> Tensor:
    """Return the cross-entropy (B,) of each pair, both directions added; their mean is `losses.info_nce`."""
    return -losses.log_matching(S, tau).diagonal(dim1=1, dim2=2).sum(0)


def smallest(values: Tensor, count: int) -> Tensor:
    """Return the numbers (count,) of the smallest of `values` (B,), of equal ones the first."""
    return torch.argsort(values, stable=True)[:count]
