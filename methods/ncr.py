"""NCR: noisy correspondence rectifier (Huang et al., NeurIPS 2021).

Networks learn clean pairs before noisy ones: a mixture of two Gaussians over the losses tells them apart. Two networks
split the pairs for each other. How well a pair does among its batch, as the networks predict it, becomes its label,
and the label its margin in the triplet loss; noisy pairs train as well in the second half of training.

Where this code departs from the released one, and why:

* A label belongs to one pair, w + (1 - w) P, and its margin holds where this pair is the anchor. In the released code
  shapes broadcast to a matrix: the prediction P is that of another pair of the batch, and noisy pairs lend their margin
  to each other when captions are the anchors. `labels=released` reproduces both. (Until June 2022 the released code
  did not use its labels at all; published numbers may stem from that state.)
* The networks train in turns update by update, not epoch by epoch: a budget ends anywhere, and would leave network B
  up to an epoch behind. Both splits are made before either trains, as released.
* Predictions are made once, and only where they are used; results are the same for less work.
* Batches of a single pair are left out; the released code leaves the epoch. Without noisy batches only clean ones
  train; a network without clean ones gets an epoch of warm-up.
* If every pair looks clean, one per cent is declared noisy by rank; released by a threshold, which takes ties with it.
* Schedules are shares of the budget; noisy pairs come in at a point of it, not at the beginning of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ncbench import Batch, Task, losses, mixture, setting
from ncbench_methods._coteaching import CoTeaching, CoTeachingSettings, Floats, agreement


class NCR(CoTeaching):
    """Two networks split pairs for each other by a Gaussian mixture; predicted labels become soft margins."""

    name = "ncr"

    @dataclass(frozen=True)
    class Config(CoTeachingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        warmup: float = setting(
            5 / 45, "share of the budget trained on all pairs alike", "NCR: 5 epochs, then 40", at_least=0
        )
        decay_every: float = setting(
            30 / 45, "share of the budget between tenfold cuts of lr", "NCR: 30 of 45 epochs", above=0
        )

    published_epochs = {"f30k": 45, "coco": 30, "cc152k": 50}
    presets = {
        "coco": {"warmup": 10 / 30, "decay_every": 10 / 30},
        "cc152k": {"warmup": 10 / 50, "decay_every": 30 / 50},
        "scenes": {"batch_size": 32, "lr": 0.003, "noisy_after": 0.55, "warmup": 0.83},
        "scenes-large": {"batch_size": 32, "lr": 2e-3},
    }

    def setup(self, task: Task) -> None:
        """Build both networks and optimisers, and the source of the mixtures' first guesses."""
        super().setup(task)
        self.guessing = task.rng("first guess of the mixture")

    def _warm_up_loss(self, similarities: Tensor) -> Tensor:
        return losses.hinge_mean(similarities, self.config.margin)

    def _posterior(self, x: Floats) -> Floats:
        posterior, _ = mixture.gaussian_posterior(x, int(self.guessing.integers(2**31)))
        return posterior[:, 0]

    def _update(self, learner: int, clean: Batch, p_clean: Floats, noisy: Batch | None) -> Mapping[str, float]:
        """Predict labels with the weights as they are, then take one step on each batch."""
        released = self.config.labels == "released"
        labels = clean_labels(self._predict(learner, clean), p_clean, released)
        noisy_labels = None
        if noisy is not None:
            noisy_labels = (self._predict(learner, noisy) + self._predict(1 - learner, noisy)) / 2
        loss_clean, loss_noisy = self._step(learner, clean, labels), 0.0
        if noisy is not None and noisy_labels is not None:
            loss_noisy = self._step(learner, noisy, noisy_labels[:, None] if released else noisy_labels)
        return {"loss": loss_clean + loss_noisy, "loss_clean": loss_clean, "loss_noisy": loss_noisy}

    @torch.no_grad()
    def _predict(self, learner: int, batch: Batch) -> Tensor:
        similarities = self.networks[learner].eval()(*batch.inputs)
        return predict(similarities, self.config.margin, self._n_surest(batch))


def predict(S: Tensor, margin: float, n_surest: int) -> Tensor:
    """Return (B,) in [0, 1]: the agreement of each pair, in units of the mean of the `n_surest` best of the batch."""
    found = agreement(S, margin)
    reference = found.topk(n_surest).values.mean()
    return (found / reference.clamp(min=torch.finfo(S.dtype).tiny)).clamp(0, 1)


def clean_labels(predicted: Tensor, p_clean: Floats, released: bool) -> Tensor:
    """Return labels (B,): 1 as far as a pair is believed to be clean, `predicted` as far as it is not.

    If `released`, (B, B): row i believes as in pair i, and predicts as for pair j.
    """
    belief = predicted.new_tensor(p_clean)
    if released:
        belief = belief[:, None]
    return belief + (1 - belief) * predicted
