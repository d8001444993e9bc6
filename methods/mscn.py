"""MSCN: meta similarity correction network (Han et al., CVPR 2023).

A few pairs are known to be clean. A small network, the head of the backbone, learns to recognise matched pairs by their
vectors, from the known pairs and from mismatches made of other pairs. It learns so that a step of the backbone with its
scores improves on the known pairs. A Beta mixture over the scores separates clean from noisy pairs. Two networks do
this for each other, and train on clean pairs only, with a smaller margin where the score is doubtful.

Departures from the released code:

* The known pairs are training pairs that ncbench provides, as reports state. They train the heads only. In the released
  code they are more than half of the dev captions of Flickr30K, which also select the model.
* A pair's margin applies where this pair is the anchor, in both directions. In the released code, captions of image
  queries use the margin of their own pair.
* The networks take turns after every update, not after every epoch: a budget can end anywhere, and would leave one of
  them up to an epoch behind. Both splits are made before either trains; in the released code, the second one is made by
  the network that has just trained on the first.
* The clean component of the mixture is the one with the larger mean, not the one initialised by the known pairs. All
  scores beyond 0.001 and 0.999 are clipped, not only 0 and 1. If there is a single component, all pairs are clean.
* Mismatches are made from claimed pairs, as the true ones are unknown. Occasionally one is a match.
* Clipping the gradient of the virtual step, which has no effect in the released code, is omitted. Batches of one pair
  are dropped. A network without clean pairs gets an epoch of warm-up.
* If the backbone has one vector per image and caption, that of a pair is their elementwise product.
* Schedules are shares of the budget. An update costs about as much as three of plain triplet training, all charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ncbench import Batch, Method, Optimiser, Task, TrainingSettings, UserError, losses, mixture, schedules, setting

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Scalars: TypeAlias = Mapping[str, float]

SCORING_BATCH = 128

NO_PAIRS = np.empty((3, 0), np.int64)


class MSCN(Method):
    """A head learns to score pairs from a few that are known to be clean; pairs with high scores train the rest."""

    name = "mscn"
    needs_abilities = frozenset({"head"})

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for all three datasets."""

        batch_size: int = setting(64, "clean pairs per update", "MSCN opt.py", at_least=2)
        decay_every: float = setting(
            30 / 55, "share of the budget between tenfold cuts of both rates", "MSCN: 30 of 55 epochs", above=0
        )
        warmup: float = setting(
            5 / 55, "share of the budget trained on all pairs alike", "MSCN: 5 epochs, then 50", at_least=0
        )
        warmup_batch: int = setting(128, "pairs per update in warm-up", "MSCN opt.py", at_least=2)
        margin: float = setting(0.2, "by how much a surely matched pair must beat its negatives", "MSCN", above=0)
        clean_above: float = setting(0.5, "P(clean) above which a pair is clean", "MSCN", at_least=0, at_most=1)
        meta: float = setting(
            0.02, "share of the pairs given as clean; at least meta_batch pairs", "MSCN", at_least=0, at_most=0.5
        )
        meta_batch: int = setting(64, "known pairs and mismatches per update of the head", "MSCN opt.py", at_least=2)
        meta_lr: float = setting(1.7e-5, "learning rate of the head after warm-up", "MSCN opt.py", above=0)
        meta_every: int = setting(1, "updates from one of the head to the next", "MSCN opt.py", at_least=1)
        hidden: int = setting(64, "hidden units of the head", "MSCN models.py", at_least=1)

    # The learning rate of the head grows with lr.
    published_epochs = {"f30k": 55, "coco": 55, "cc152k": 55}
    presets = {
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0017, "warmup": 0.59, "meta_lr": 0.00021},
        "scenes-large": {"lr": 1e-3, "meta_lr": 8.5e-5},
        "shapes": {"lr": 1.8e-3, "meta_lr": 3.5e-4, "warmup": 0.81},  # the tiny dataset of `ncbench methods check`
    }

    def clean_pairs_needed(self, pairs: int) -> int:
        """Return the share `meta` of the pairs, or a batch of them if that is more."""
        needed: int = max(round(self.config.meta * pairs), self.config.meta_batch)
        return needed

    def setup(self, task: Task) -> None:
        """Build two networks, A and B, and optimisers of their heads and of the rest, for warm-up and for after it.

        Raises UserError unless at least two pairs remain besides those that are known to be clean.
        """
        if task.clean is None or not len(task.clean):
            raise ValueError("mscn needs some clean pairs, but task.clean has none")
        config, budget = self.config, task.budget
        self.task = task
        self.others = np.setdiff1d(np.arange(len(task.data)), task.clean)
        if len(self.others) < 2:
            raise UserError(f"mscn needs two pairs besides the {len(task.clean)} known ones; lower meta or meta_batch.")
        self.orders = [task.rng(f"order of pairs of network {name}") for name in "AB"]
        self.mismatching = [task.rng(f"mismatches of network {name}") for name in "AB"]
        self.networks = [task.new_backbone(head=config.hidden) for _ in "AB"]
        self.starters = [
            [Optimiser.of(config, part, budget, config.warmup) for part in (body_of(network), [head_of(network)])]
            for network in self.networks
        ]
        self.optimisers = [Optimiser.of(config, body_of(network), budget, config.warmup) for network in self.networks]
        self.head_optimisers = [
            Optimiser(
                [head_of(network)],
                budget,
                lr=config.meta_lr,
                decay_from=config.warmup,
                decay_every=config.decay_every,
            )
            for network in self.networks
        ]
        self.turns = schedules.Turns()
        self.since_meta, self.meta = [0, 0], [NO_PAIRS, NO_PAIRS]
        self.p_clean: Floats | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Make new mismatches, and split the pairs by the scores of either network, once warm-up is over."""
        self.turns.begin()
        self.since_meta, self.meta = [0, 0], [NO_PAIRS, NO_PAIRS]
        if self.task.budget.progress >= self.config.warmup:
            self.p_clean = np.stack([self._judge(judge) for judge in (0, 1)])

    def train_epoch(self, epoch: int) -> Iterator[Scalars]:
        """Train the networks in turns: on all pairs in warm-up, then each on the other's split."""
        return self.turns.take(*(self._epoch(learner) for learner in (0, 1)))

    def pair_scores(self) -> Floats | None:
        """Return the mean of both networks' P(clean) at the latest split, (pairs,), 1 for known pairs; or None."""
        return None if self.p_clean is None else self.p_clean.mean(0)

    def _epoch(self, learner: int) -> Iterator[Scalars]:
        """Return the epoch of one network. Its batches are created now, so their order does not depend on the turns."""
        config, order = self.config, self.orders[learner]
        clean = self.others
        if self.p_clean is not None:
            clean = self.others[self.p_clean[1 - learner][self.others] > config.clean_above]
        if self.p_clean is None or len(clean) < 2:
            batches = self.task.data.batches(config.warmup_batch, order, self.others)
            return self._warm_up(learner, batches, until=config.warmup if self.p_clean is None else 1.0)
        return self._learn(learner, self.task.data.batches(config.batch_size, order, clean))

    def _warm_up(self, learner: int, batches: Iterator[Batch], until: float) -> Iterator[Scalars]:
        """Train one network, head included, at most until that share of the budget is spent."""
        network = self.networks[learner]
        for batch in schedules.until(until, self.task.budget, batches):
            loss = losses.hinge_mean(network.train()(*batch.inputs), self.config.margin)
            loss.backward()  # type: ignore[no-untyped-call]
            for optimiser in self.starters[learner]:
                optimiser.apply()
            yield {"loss": loss.item()}

    def _learn(self, learner: int, batches: Iterator[Batch]) -> Iterator[Scalars]:
        """Train one network on batches of clean pairs, the head before the rest."""
        for batch in batches:
            scalars = {}
            if self.since_meta[learner] % self.config.meta_every == 0:
                scalars["loss_meta"] = self._learn_head(learner, batch, *self._meta_batch(learner))
            self.since_meta[learner] += 1
            yield {"loss": self._learn_body(learner, batch), **scalars}

    def _learn_head(self, learner: int, clean: Batch, meta: Batch, labels: Tensor) -> float:
        """Update the head so that it separates known pairs from mismatches after a step of the rest on clean pairs."""
        network = self.networks[learner].train()
        weights = {
            name: weight.detach().requires_grad_()
            for name, weight in network.named_parameters()
            if not name.startswith("head.")
        }
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}  # the step must not change them
        with network.differentiated_twice():
            similarities = functional_call(network, {**weights, **buffers}, clean.inputs)
        moved = virtual_step(self._hinge(similarities), weights, self.optimisers[learner].lr)
        scores = functional_call(network, {**moved, **buffers}, meta.inputs, {"each": True})
        loss = functional.binary_cross_entropy(scores, labels)
        loss.backward(inputs=list(head_of(network).parameters()))  # type: ignore[no-untyped-call]
        self.head_optimisers[learner].apply()
        return loss.item()

    def _learn_body(self, learner: int, clean: Batch) -> float:
        """Update everything but the head once on a batch of clean pairs."""
        network = self.networks[learner].train()
        with frozen(head_of(network)):
            loss = self._hinge(network(*clean.inputs))
        self.optimisers[learner].step(loss)
        return loss.item()

    def _hinge(self, similarities: Tensor) -> Tensor:
        margins = adaptive_margins(similarities.diagonal().detach(), self.config.margin)
        return losses.hinge_max(similarities, margins)

    @torch.no_grad()
    def _judge(self, judge: int) -> Floats:
        """Return P(clean) of every pair, (pairs,), from the scores of one network; 1 for known pairs."""
        captions, images, labels = self._meta_pairs(judge)
        start = mixture.beta_mixture_of(self._scores(judge, captions, images), labels)
        p_clean = np.ones(len(self.task.data))
        p_clean[self.others] = beta_posterior(
            self._scores(judge, self.others, self.task.data.claimed[self.others]), start
        )
        return p_clean

    def _scores(self, judge: int, captions: Integers, images: Integers) -> Floats:
        """Return the scores (n,) of captions (n,) with images (n,)."""
        network = self.networks[judge].eval()
        found = [
            network(*self.task.data.batch(captions[some], images[some]).inputs, each=True).cpu().numpy()
            for some in chunks(np.arange(len(captions)), SCORING_BATCH)
        ]
        return np.concatenate(found).astype(np.float64)

    def _meta_batch(self, learner: int) -> tuple[Batch, Tensor]:
        """Return the next known pairs and mismatches, and their labels (B,). Mismatches change after every pass."""
        if self.meta[learner].shape[1] < 2:
            order = self.mismatching[learner]
            self.meta[learner] = order.permutation(np.stack(self._meta_pairs(learner)), axis=1)
        taken, self.meta[learner] = np.split(self.meta[learner], [self.config.meta_batch], axis=1)
        captions, images, labels = taken
        batch = self.task.data.batch(captions, images)
        return batch, batch.images.new_tensor(labels)

    def _meta_pairs(self, network: int) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """Return captions, images and whether they match: the known pairs, and as many random mismatches."""
        data, rng, known = self.task.data, self.mismatching[network], self.task.clean
        assert known is not None
        captions = rng.integers(len(data), size=len(known))
        images = (data.claimed[captions] + rng.integers(1, data.n_images, len(known))) % data.n_images
        matched = np.arange(2 * len(known)) < len(known)
        return np.concatenate([known, captions]), np.concatenate([data.claimed[known], images]), matched


def adaptive_margins(scores: Tensor, margin: float) -> Tensor:
    """Return the margin (B,) of each pair from its score p (B,) in [0, 1]: margin p^2 / (p^2 + (1 - p)^2)."""
    return margin * scores**2 / (scores**2 + (1 - scores) ** 2)


def virtual_step(loss: Tensor, weights: Mapping[str, Tensor], lr: float) -> dict[str, Tensor]:
    """Return `weights` after a step of gradient descent on `loss`, differentiable by all that the loss depends on."""
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
    return {name: weight - lr * slope for (name, weight), slope in zip(weights.items(), gradients, strict=True)}


def beta_posterior(scores: Floats, start: mixture.BetaMixture) -> Floats:
    """Return (n,): P(clean) of pairs from their scores in [0, 1], by EM on two betas from `start`.

    It stops after ten iterations, or when the log-likelihood gains at most 0.01 nats. With a single component, all
    pairs are clean.
    """
    fitted = mixture.fit_beta_mixture(scores, start=start, tolerance=1e-2, max_iterations=10)
    if fitted.weight.min() == 0:
        return np.ones_like(scores)
    found: Floats = fitted.posterior(scores)[:, 1]
    return found


def chunks(items: Integers, size: int) -> Iterator[Integers]:
    """Yield `items`, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def head_of(network: nn.Module) -> nn.Module:
    """Return the head of a network."""
    return network.get_submodule("head")


def body_of(network: nn.Module) -> list[nn.Module]:
    """Return the parts of a network that are not its head."""
    return [part for name, part in network.named_children() if name != "head"]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let nothing computed inside have gradients with respect to the weights of a network."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
