"""GSC: geometrical structure consistency (Zhao et al., CVPR 2024).

A mismatched pair is visible in two ways: its image and its caption do not match, and they have different neighbours in
the batch, the image among the images, the caption among the captions. Contrastive losses learn both, and both are
measured during training. The smaller of the two measures, each averaged over the epochs, weights a pair in both losses.

This is GSC with one network. GSC+, in which two networks weight the pairs for each other, is not included.

Departures from the released code:

* The scores of images against captions, images against images and captions against captions share one encoding of the
  batch. The released code encodes global vectors again for each: the same, except for dropout masks.
* Running statistics of SAF's gate come from image-caption pairs only. In the released code, those of captions against
  captions are the last of a step, and evaluation uses them for images against captions.
* The contrast of neighbourhoods is computed in log space. Its logits are sums over the batch, up to 128. The released
  code exponentiates them, which overflows single precision above 88.
* On MS-COCO `gamma` is 0.05, from the script of GSC+. The script of GSC sets none, which leaves 1.0, a hundred times
  the value of the other datasets.
* If similarities are cosines, (1 + cos) / 2 replaces the sigmoid of the raw score in neighbourhoods. The contrast of
  images and captions uses the cosines themselves.
* Averages over the epochs are part of a checkpoint. The released code restarts that of the matching probabilities.
* A pair that is in no batch keeps its measures. If all neighbourhoods agree equally, all pairs are clean.
* Schedules are shares of the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ncbench import Batch, Method, Optimiser, Task, TrainingSettings, losses, mixture, setting


def matching(S: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Return the contrastive loss (B,) of every pair, and its matching probability (B,), a constant.

    With p = softmax(S / tau), of captions per image and of images per caption: means of -log p_ii, and of p_ii, over
    both. S is (B images, B captions). Source: GSC, cross-modal loss and indicator.
    """
    log_p = losses.log_matching(S, tau).diagonal(dim1=1, dim2=2)
    return -log_p.mean(0), log_p.detach().exp().mean(0)


def neighbourhoods(of_images: Tensor, of_captions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contrastive loss (B,) of every pair's neighbourhoods, and their cosine (B,), a constant.

    `of_images` I and `of_captions` C (B, B): row i holds the similarities of image i to all images, and of caption i to
    all captions; column j is multiplied by element j of `weights` (B,).
    The loss is -log softmax(I C^T)_ii over captions.
    Source: GSC, intra-modal loss and indicator.
    """
    images, captions = of_images * weights, of_captions * weights
    losses = -(images @ captions.T).log_softmax(1).diagonal()
    return losses, functional.cosine_similarity(images, captions).detach()


class GSC(Method):
    """Weights pairs by how well image and caption match, and by how similar their neighbourhoods are."""

    name = "gsc"
    needs_abilities = frozenset({"within"})

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        decay_every: float = setting(
            15 / 60, "share of the budget between cuts of lr", "GSC train_f30k.sh: 15 of 60 epochs", above=0
        )
        decay: float = setting(0.2, "factor of lr at each cut", "GSC train.py", above=0, at_most=1)
        tau: float = setting(0.07, "temperature of the softmax over images and captions", "GSC train.py", above=0)
        gamma: float = setting(0.01, "weight of the contrast of neighbourhoods", "GSC train_f30k.sh", at_least=0)
        beta: float = setting(
            0.7, "share of an epoch in the average of a measure", "GSC train_f30k.sh", above=0, at_most=1
        )

    # cc152k: as f30k.
    published_epochs = {"f30k": 60, "coco": 60, "cc152k": 60}
    presets = {
        "coco": {"decay_every": 20 / 60, "gamma": 0.05},
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.002, "tau": 0.14, "decay_every": 0.69},
        "scenes-large": {"lr": 1e-3},
    }

    def setup(self, task: Task) -> None:
        """Build the network and its optimiser. All pairs have weight 1 at first."""
        config = self.config
        self.task = task
        self.order = task.rng("order of pairs")
        self.guessing = task.rng("first guess of the mixture")
        self.backbone = task.new_backbone()
        self.optimiser = Optimiser(
            [self.backbone],
            task.budget,
            lr=config.lr,
            clip=config.clip,
            decay_every=config.decay_every,
            decay=config.decay,
        )
        # Per pair: the latest matching probability and cosine of neighbourhoods, and their averages.
        self.q, self.z, self.q_mean, self.z_mean = np.ones((4, len(task.data)))

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Pass over all claimed pairs once, then update the averages of the measures."""
        for batch in self.task.data.batches(self.config.batch_size, self.order):
            yield self._update(batch)
        self._average()

    def pair_scores(self) -> NDArray[np.float64]:
        """Return the weight of every pair in the losses, (pairs,) in [0, 1]; 1 before the end of the first epoch."""
        return np.minimum(self.q_mean, self.z_mean)

    def _update(self, batch: Batch) -> Mapping[str, float]:
        config, net = self.config, self.backbone.train()
        images = net.encode_images(batch.images)
        captions = net.encode_captions(batch.tokens, batch.lengths)
        across = net.score(images, captions)
        of_images, of_captions = net.score_images(images, images), net.score_captions(captions, captions)
        if not net.IN_UNIT_INTERVAL:
            of_images, of_captions = (1 + of_images) / 2, (1 + of_captions) / 2
        weights = torch.from_numpy(self.pair_scores()[batch.pairs]).to(across)
        losses_across, q = matching(across, config.tau)
        losses_within, z = neighbourhoods(of_images, of_captions, weights)
        self.q[batch.pairs], self.z[batch.pairs] = q.cpu().numpy(), z.cpu().numpy()
        loss_across, loss_within = (weights * losses_across).mean(), (weights * losses_within).mean()
        loss = loss_across + config.gamma * loss_within
        self.optimiser.step(loss)
        return {"loss": loss.item(), "loss_across": loss_across.item(), "loss_within": loss_within.item()}

    def _average(self) -> None:
        """Add the latest measures to the averages: q as it is, z as the posterior of the Gaussian with the larger mean.

        The mixture is fitted to 1 - z, where that Gaussian has the smaller mean: if all values are equal, all pairs
        belong to it.
        """
        distances = mixture.scale_to_unit(1 - self.z)
        posterior, _ = mixture.gaussian_posterior(distances, int(self.guessing.integers(2**31)))
        beta = self.config.beta
        self.q_mean = beta * self.q + (1 - beta) * self.q_mean
        self.z_mean = beta * posterior[:, 0] + (1 - beta) * self.z_mean
