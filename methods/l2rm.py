"""L2RM: learning to rematch mismatched pairs (Han et al., CVPR 2024).

A Beta mixture over the losses splits the pairs. Clean pairs train with hardest negatives. Noisy pairs are not
discarded: entropic partial optimal transport, with the given pairs forbidden, finds captions in the batch that fit the
images better, and its plan is the soft target of a symmetric KL loss. The cost of the transport is learned from clean
images that are planted at known positions among the noisy ones.

Departures from the released code:

* Given pairs are forbidden at any noise ratio. The released code forbids them only if the true noise ratio is not zero,
  which a method cannot know. It forbids the diagonal only; this code forbids every given pair of the batch (under image
  noise the captions of one image share their wrong image).
* The plan is solved to convergence. The released solver stops early, which moves up to 38 % too much mass in tiny
  problems and a few per cent at batch size 128, where the gradients of the converged plan are 5 to 7 % away from those
  of the released one. `solver=published` reproduces it.
* The clean component of the mixture is the one with the smaller mean, not the one with the larger density at 0.001.
* Gradients of the clean and the noisy batch are accumulated one after the other: the same sums in half the memory.
* With fewer noisy pairs than a batch, only clean batches train. With fewer clean pairs, an epoch of warm-up follows.
  The released code crashes, or loops without a step.
* Schedules are shares of the budget.

Settings switch its parts one by one for ablations: `cost`, `mass` (1 is full transport), `given`, `solver`, `loss`,
`noisy`, `split`.
Given pairs may leave room for less than `mass`, for example if most captions of a batch claim the same image. Then as
much is moved as there is room for, and a noisy batch without any room does not train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench import (
    Batch,
    Method,
    Optimiser,
    Plan,
    Rematches,
    Task,
    TrainingSettings,
    losses,
    mixture,
    rematching,
    scans,
    schedules,
    setting,
    transport,
)


class L2RM(Method):
    """Rematches mismatched pairs by partial optimal transport with a self-supervised cost."""

    name = "l2rm"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        batch_size: int = setting(128, "pairs per update, clean and noisy each", "L2RM opt.py", at_least=2)
        queue: int = setting(128, "images that captions may be rematched to; at least batch_size", "L2RM opt.py")
        lr_cost: float = setting(2e-6, "learning rate of the cost network", "L2RM train_f30k.sh", above=0)
        warmup: float = setting(
            0.125, "share of the budget trained on all pairs by the robust loss", "L2RM: 5 of 40 epochs"
        )
        margin: float = setting(0.2, "margin of the hinge losses", "L2RM opt.py")
        tau: float = setting(0.05, "temperature of the softmax losses", "L2RM opt.py", above=0)
        reg: float = setting(
            0.01, "entropic regularisation of the transport, in units of cost", "L2RM train_f30k.sh", above=0
        )
        mass: float = setting(
            0.1,
            "share of images and captions that the transport matches; 1 is full transport",
            "L2RM opt.py (rho)",
            above=0,
            at_most=1,
        )
        planted: float = setting(0.1, "largest share of a batch planted for the cost network", "L2RM main_L2RM.py")
        cost: Literal["learned", "complement"] = setting("learned", "cost network, or 1 - similarity", "L2RM")
        solver: Literal["sinkhorn", "exact", "published"] = setting(
            "sinkhorn", "of the transport problem", "see module"
        )
        given: Literal["forbidden", "allowed"] = setting(
            "forbidden", "whether captions may be rematched to the images that they claim", "see module"
        )
        loss: Literal["symmetric_kl", "kl", "jensen_shannon", "arithmetic_geometric", "soft_info_nce"] = setting(
            "symmetric_kl", "of rematched pairs against the plan, see ncbench.method.losses", "L2RM main_L2RM.py"
        )
        noisy: Literal["rematched", "left_out"] = setting(
            "rematched", "whether pairs that look mismatched are rematched, or do not train at all", "L2RM, section 3"
        )
        split: Literal["mixture", "none"] = setting(
            "mixture", "clean and noisy pairs by the mixture over losses, or all pairs as both", "L2RM, section 3.1"
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.batch_size > self.queue:
                raise ValueError(f"queue must be at least batch_size, found {self.queue} and {self.batch_size}")

    published_epochs = {"f30k": 40, "coco": 30, "cc152k": 50}
    presets = {
        "coco": {"reg": 0.07, "warmup": 1 / 3, "decay_every": 1 / 3},
        "cc152k": {"reg": 0.07, "warmup": 0.2, "decay_every": 0.4},
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0031, "warmup": 0.39, "reg": 0.066},
        "scenes-large": {"lr": 1e-3, "warmup": 0.4},
    }

    def setup(self, task: Task) -> None:
        """Build the backbone, the cost network and their optimisers, and fill the queue with random images."""
        config = self.config
        self.task = task
        self.order = task.rng("order of pairs")
        self.planting = task.rng("planted images")
        self.backbone = task.new_backbone()
        self.cost_network = rematching.CostNetwork(config.batch_size).to(task.device)
        self.optimiser = Optimiser.of(config, [self.backbone], task.budget, decay_from=config.warmup)
        self.cost_optimiser = Optimiser(
            [self.cost_network],
            task.budget,
            lr=config.lr_cost,
            decay_from=config.warmup,
            decay_every=config.decay_every,
        )
        self.queue_numbers = task.rng("first queue").choice(task.data.n_images, config.queue)
        self.queue = task.data.images(self.queue_numbers)
        self.p_clean: NDArray[np.float64] | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Split the pairs, once warm-up is over."""
        config, data = self.config, self.task.data
        if self.task.budget.progress >= config.warmup and config.split == "none":
            self.p_clean = np.full(len(data), 0.5)
        elif self.task.budget.progress >= config.warmup:
            (found,) = scans.pair_losses([self.backbone], data, config.batch_size, self.order, config.margin)
            self.p_clean = mixture.clean_probability(found)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Warm up on all pairs, or train on clean and noisy batches together."""
        data, size = self.task.data, self.config.batch_size
        if self.p_clean is None:
            yield from self._warm_up(until=self.config.warmup)
            return
        clean, noisy = np.flatnonzero(self.p_clean > 0.5), np.flatnonzero(self.p_clean <= 0.5)
        if self.config.split == "none":
            clean = noisy
        if len(clean) < size:
            yield from self._warm_up(until=1.0)
            return
        noisy_batches = data.endless_batches(size, self.order, noisy, drop_last=True)
        for clean_batch in data.batches(size, self.order, clean, drop_last=True):
            yield self._update(clean_batch, next(noisy_batches, None) if self.config.noisy == "rematched" else None)

    def _warm_up(self, until: float) -> Iterator[Mapping[str, float]]:
        """Pass over all pairs with the robust loss, at most until that share of the budget is spent."""
        batches = self.task.data.batches(self.config.batch_size, self.order)
        for batch in schedules.until(until, self.task.budget, batches):
            self.backbone.train()
            loss = losses.rce(self._similarities(batch.images, batch), self.config.tau)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}

    def _update(self, clean: Batch, noisy: Batch | None) -> Mapping[str, float]:
        if noisy is not None and self.config.cost == "learned":
            self._learn_cost(clean)
        self.backbone.train()
        loss_clean = self._clean_loss(clean)
        self.optimiser.accumulate(loss_clean)
        scalars = {"loss_clean": loss_clean.item(), "loss_noisy": 0.0}
        if noisy is not None:
            self._enqueue(noisy)
            similarities = self._similarities(self.queue, noisy)
            plan = self._plan(similarities, noisy)
            if plan.any():
                loss_noisy = getattr(losses, self.config.loss)(similarities, plan, self.config.tau)
                self.optimiser.accumulate(loss_noisy)
                scalars["loss_noisy"] = loss_noisy.item()
        self.optimiser.apply()
        return {"loss": scalars["loss_clean"] + scalars["loss_noisy"], **scalars}

    def _clean_loss(self, clean: Batch) -> Tensor:
        """Return the loss of pairs that look clean: the hinge on the hardest negatives."""
        return losses.hinge_max(self._similarities(clean.images, clean), self.config.margin)

    def _learn_cost(self, clean: Batch) -> None:
        """Lower the cost of true matches: clean images planted at random positions of the queue. L2RM, eq. 9."""
        count = int(self.planting.integers(1, max(1, int(self.config.planted * len(clean))), endpoint=True))
        captions = self.planting.choice(len(clean), count, replace=False)
        places = self.planting.choice(len(self.queue), count, replace=False)
        images = self.queue.clone()
        images[places] = clean.images[captions]
        self.backbone.eval()
        with torch.no_grad():
            similarities = self._similarities(images, clean)
        self.cost_optimiser.step(self._learned_cost(similarities, passes=3)[places, captions].sum())

    def _enqueue(self, noisy: Batch) -> None:
        """Add the images of a noisy batch to the front of the queue; the oldest are dropped."""
        size = self.config.queue
        self.queue = torch.cat([noisy.images, self.queue])[:size]
        self.queue_numbers = np.concatenate([self.task.data.claimed[noisy.pairs], self.queue_numbers])[:size]

    @torch.no_grad()
    def _plan(self, similarities: Tensor, noisy: Batch) -> Tensor:
        """Return the transport plan (Q, B) between the images of the queue and the captions of a noisy batch."""
        cost = self._learned_cost(similarities, passes=1) if self.config.cost == "learned" else 1 - similarities
        forbidden = None
        if self.config.given == "forbidden":
            forbidden = rematching.given_pairs(self.queue_numbers, self.task.data.claimed[noisy.pairs])
        return transport.partial_transport(
            cost, self.config.mass, self.config.reg, forbidden, solver=self.config.solver, shrink=True
        )

    def _learned_cost(self, similarities: Tensor, passes: int) -> Tensor:
        """Return the costs (Q, B) of similarities (Q, B), and charge for `passes`: 3 if a backward pass follows."""
        self.task.budget.charge(passes * 2 * similarities.numel() * similarities.shape[1])
        cost: Tensor = self.cost_network(similarities)
        return cost

    def _similarities(self, images: Tensor, batch: Batch) -> Tensor:
        similarities: Tensor = self.backbone(images, batch.tokens, batch.lengths)
        return similarities

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Return the posterior of the clean component at the latest split, (pairs,); None before the first one."""
        return self.p_clean if self.config.split == "mixture" else None

    def rematches(self) -> Rematches | None:
        """Return, for every caption that looks mismatched, the image that receives most of its transported mass.

        The weight is its share of that mass, which is the label in training, however little mass is transported. It is
        0 if the image is the claimed one, or if the label is uniform for lack of mass (see `losses`).
        """
        captions, images, weights = [], [], []
        for plan in self._plans(self.task.rng("rematches")):
            rows, shares = rematching.best_images(plan.mass)
            found = plan.images[rows]
            captions.append(plan.captions)
            images.append(found)
            weights.append(shares * (found != self.task.data.claimed[plan.captions]))
        if not captions:
            return None
        return Rematches(np.concatenate(captions), np.concatenate(images), np.concatenate(weights))

    def transport_plan(self) -> Plan | None:
        """Return the plan of a random batch of captions that look mismatched; None before the first split."""
        return next(self._plans(self.task.rng("plan to look at")), None)

    @torch.no_grad()
    def _plans(self, rng: np.random.Generator) -> Iterator[Plan]:
        """Yield the plans of all captions that look mismatched, in batches as in training."""
        if self.p_clean is None or self.config.noisy == "left_out":
            return
        self.backbone.eval()
        noisy = np.flatnonzero(self.p_clean <= 0.5)
        before = self.queue, self.queue_numbers
        try:
            for batch in self.task.data.batches(self.config.batch_size, rng, noisy, drop_last=True):
                self._enqueue(batch)
                mass = self._plan(self._similarities(self.queue, batch), batch).cpu().numpy().astype(np.float64)
                yield Plan(batch.pairs, self.queue_numbers, mass)
        finally:
            self.queue, self.queue_numbers = before  # training must not notice
