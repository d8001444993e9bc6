"""BiCro: bidirectional cross-modal similarity consistency (Yang et al., CVPR 2023).

Similar images should have similar captions. The surest pairs of a clean batch are anchors. The similarities of another
pair to its nearest anchor, image to image and caption to caption, should be alike, and their ratio is the pair's label.
Two networks split the pairs for each other by a Beta mixture over their losses, and label them for each other.

Departures from the released code:

* Every pair gets its own label, and its margin applies where this pair is the anchor of the hinge. The released code
  assigns the labels of a clean batch to the wrong pairs, and uses the margins of other pairs when images are anchors.
  `labels=released` reproduces both.
* The clean component of the mixture is the one with the smaller mean, not the first one. Losses are clipped for the
  posterior as for the fit; the released posterior is NaN at the smallest loss. Losses tie there, so that 12 to 19 % of
  the pairs, the surest ones, have no posterior and are no anchors in the released code.
* The networks take turns after every update, not after every epoch: a budget can end anywhere, and would leave network
  B up to an epoch behind. Both splits are made before either trains, as released.
* Anchors are compared by all features that a backbone has: the sum of its region and word vectors, as released, or the
  single vector that some backbones compute for an image or a caption.
* Batches of a single pair are dropped. Without noisy batches only clean ones train. A network without clean ones gets
  an epoch of warm-up; in the released code it waits. In warm-up at least one pair of a batch trains.
* If every pair looks clean, one per cent becomes noisy by rank. The released code uses a threshold, which includes
  ties.
* Schedules are shares of the budget. Noisy pairs are added at a point of it, not at the start of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaln
from torch import Tensor
from torch.nn import functional

from ncbench import Batch, losses, setting
from ncbench_methods._coteaching import CoTeaching, CoTeachingSettings, Floats, agreement

EDGE = 1e-4  # losses are clipped this far away from 0 and 1, where beta densities may be 0 or infinite
ITERATIONS = 10
MIN_DENSITY = 1e-12


class BiCro(CoTeaching):
    """Labels pairs by how consistently their image and caption relate to the surest pairs of the batch."""

    name = "bicro"

    @dataclass(frozen=True)
    class Config(CoTeachingSettings):
        """Hyper-parameters; the defaults are those published for all three datasets."""

        warmup: float = setting(
            10 / 50, "share of the budget trained on the easiest of all pairs", "BiCro: 10 epochs, then 40", at_least=0
        )
        decay_every: float = setting(
            30 / 50, "share of the budget between tenfold cuts of lr", "BiCro: 30 of 50 epochs", above=0
        )
        easiest: float = setting(
            0.3, "share of a batch, of the smallest losses, that trains in warm-up", "BiCro", above=0, at_most=1
        )
        reject: float = setting(0.5, "a label up to this becomes 0", "BiCro (noise_tem)", at_least=0, at_most=1)

    published_epochs = {"f30k": 50, "coco": 50, "cc152k": 50}
    presets = {
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0028, "warmup": 0.6, "easiest": 0.7},
        "scenes-large": {"lr": 1e-3},
    }

    def _warm_up_loss(self, similarities: Tensor) -> Tensor:
        return easiest_loss(similarities, self.config.margin, self.config.easiest)

    def _posterior(self, x: Floats) -> Floats:
        return beta_posterior(x)

    def _update(self, learner: int, clean: Batch, p_clean: Floats, noisy: Batch | None) -> Mapping[str, float]:
        """Label both batches with the other network, then take one step on each, the noisy one first."""
        labels, noisy_labels = self._labels(1 - learner, clean, noisy)
        loss_noisy = 0.0
        if noisy is not None and noisy_labels is not None:
            loss_noisy = self._step(learner, noisy, noisy_labels)
        loss_clean = self._step(learner, clean, labels)
        return {"loss": loss_clean + loss_noisy, "loss_clean": loss_clean, "loss_noisy": loss_noisy}

    @torch.no_grad()
    def _labels(self, judge: int, clean: Batch, noisy: Batch | None) -> tuple[Tensor, Tensor | None]:
        """Return the labels of both batches by network `judge`. The anchors of both are clean pairs."""
        reject, released = self.config.reject, self.config.labels == "released"
        network = self.networks[judge].eval()
        images = network.encode_images(clean.images)
        captions = network.encode_captions(clean.tokens, clean.lengths)
        order = agreement(network.score(images, captions), self.config.margin).argsort(stable=True)
        rest, anchors = order.tensor_split([len(clean) - self._n_surest(clean)])
        seen, said = one_vector(images.parts[0]), one_vector(captions.parts[0])
        labels = clean_labels(consistency(seen, said, seen[anchors], said[anchors]), rest, reject, released)
        if noisy is None:
            return (labels[None] if released else labels), None
        noisy_seen = one_vector(network.encode_images(noisy.images).parts[0])
        noisy_said = one_vector(network.encode_captions(noisy.tokens, noisy.lengths).parts[0])
        noisy_labels = settle(consistency(noisy_seen, noisy_said, seen[anchors], said[anchors]), reject)
        if released:  # one row: every entry of a column has the margin of the column's pair
            return labels[None], noisy_labels[None]
        return labels, noisy_labels


def easiest_loss(S: Tensor, margin: float, share: float) -> Tensor:
    """Return the sum of the smallest losses of a batch: those of a `share` of its pairs, of at least one pair."""
    count = max(1, int(share * len(S)))
    return losses.pair_losses(S, margin).topk(count, largest=False).values.sum()


def one_vector(vectors: Tensor) -> Tensor:
    """Return one vector (n, E) per image or caption: the sum of its regions or words (n, K, E), if it has several.

    Padding is zero. The sum is as good as the mean, as only cosines of it are used.
    """
    return (vectors if vectors.ndim == 2 else vectors.sum(1)).float()


def consistency(images: Tensor, captions: Tensor, anchor_images: Tensor, anchor_captions: Tensor) -> Tensor:
    """Return (n,), at most 1: how similarly images (n, E) and captions (n, E) relate to anchors (k, E).

    The mean of the ratios at the anchor nearest to the image and at the one nearest to the caption.
    """
    seen, said = cosines(images, anchor_images), cosines(captions, anchor_captions)
    return (ratio(seen, said) + ratio(said, seen)) / 2


def cosines(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Return the cosines (n, k) of vectors (n, E) with anchors (k, E)."""
    return functional.normalize(vectors, eps=1e-8) @ functional.normalize(anchors, eps=1e-8).T


def ratio(leading: Tensor, following: Tensor) -> Tensor:
    """Return (n,): the ratio of two cosines (n, k) where `leading` is largest, inverted if it exceeds 1.

    It is negative if the signs differ, and 0 if both are 0.
    """
    nearest = leading.argmax(1, keepdim=True)
    ours, theirs = leading.gather(1, nearest)[:, 0], following.gather(1, nearest)[:, 0]
    found = ours / theirs
    return torch.where(found < 1, found, theirs / ours).nan_to_num(0)


def settle(values: Tensor, reject: float) -> Tensor:
    """Return labels in [0, 1]: `values`, with those up to `reject` set to 0."""
    return values.masked_fill(values <= reject, 0).clamp(0, 1)


def clean_labels(consistency: Tensor, rest: Tensor, reject: float, released: bool) -> Tensor:
    """Return labels (B,) of a clean batch: 1 for anchors, (1 + consistency) / 2 for the `rest`, given by their indices.

    If `released`, the k-th of the rest gets the label of the k-th pair of the batch instead of its own.
    """
    values = settle((1 + consistency) / 2, reject)
    labels = torch.ones_like(values)
    labels[rest] = values[: len(rest)] if released else values[rest]
    return labels


def beta_posterior(x: Floats) -> Floats:
    """Return (n,): P(clean) of losses `x` (n,) in [0, 1], by ten iterations of EM on two betas; 1 if all are equal.

    As published: initialised with Beta(1, 2) and Beta(2, 1), moments in the M-step, no convergence test. The fit of
    `ncbench.mixture` differs: it clips at 0.001.
    """
    if x.min() == x.max():
        return np.ones_like(x)
    a, b, _, responsibility = fit_betas(x)
    found: Floats = responsibility[:, np.argmin(a / (a + b))]
    return found


def fit_betas(x: Floats, iterations: int = ITERATIONS) -> tuple[Floats, Floats, Floats, Floats]:
    """Return shapes a (2,) and b (2,) and weights (2,) of two betas fitted to `x`, and their posteriors (n, 2)."""
    x = np.clip(x, EDGE, 1 - EDGE)[:, None]
    a, b, weight = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5])
    for iteration in range(iterations + 1):
        density = weight * np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b))
        density = np.maximum(density, MIN_DENSITY)
        responsibility = density / density.sum(1, keepdims=True)
        if iteration < iterations:
            total = responsibility.sum(0)
            mean = (responsibility * x).sum(0) / total
            variance = np.maximum((responsibility * (x - mean) ** 2).sum(0) / total, EDGE**2)
            concentration = mean * (1 - mean) / variance - 1
            a, b, weight = mean * concentration, (1 - mean) * concentration, total / len(x)
    return a, b, weight, responsibility
