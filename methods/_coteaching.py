"""Co-teaching: two networks that split the pairs for each other. NCR and BiCro share it.

Each network separates clean from noisy pairs by a mixture over its losses, and the other one trains on the result, so
that neither confirms its own mistakes (co-teaching: Han et al., NeurIPS 2018; for this task NCR, NeurIPS 2021). Labels
in [0, 1] become margins of the triplet loss, so a doubtful pair has to beat its negatives by less.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench import Batch, Method, Optimiser, Task, TrainingSettings, losses, mixture, scans, schedules, setting

Floats: TypeAlias = NDArray[np.float64]
Scalars: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class CoTeachingSettings(TrainingSettings):
    """The settings of both methods; the defaults are those published for Flickr30K."""

    noisy_after: float = setting(
        0.5, "share of the time after warm-up that passes before noisy pairs train too", "NCR", at_least=0
    )
    margin: float = setting(0.2, "by how much a surely matched pair must beat its negatives", "NCR", above=0)
    clean_above: float = setting(0.5, "P(clean) above which a pair is clean", "NCR", at_least=0, at_most=1)
    surest: float = setting(
        0.1, "share of a batch, and one pair more, that counts as surely matched", "NCR", at_least=0, at_most=0.9
    )
    labels: Literal["correct", "released"] = setting(
        "correct", "labels and margins of their own pairs, or mixed up as in the released code", "see module"
    )


class CoTeaching(Method):
    """Warm-up, splits and turns. A method adds the loss of warm-up, the mixture and the update."""

    def setup(self, task: Task) -> None:
        """Build two networks, A and B, with different initial weights, and an optimiser for each."""
        self.task = task
        self.scanning = task.rng("order of the scan")
        self.orders = [task.rng(f"order of pairs of network {name}") for name in "AB"]
        self.networks = [task.new_backbone() for _ in "AB"]
        self.optimisers = [
            Optimiser.of(self.config, [network], task.budget, decay_from=self.config.warmup)
            for network in self.networks
        ]
        self.turns = schedules.Turns()
        self.p_clean: Floats | None = None
        self.labels: Floats = np.full((2, len(task.data)), np.nan)

    def begin_epoch(self, epoch: int) -> None:
        """Split the pairs by the losses of either network, once warm-up is over."""
        config = self.config
        self.turns.begin()
        if self.task.budget.progress >= config.warmup:
            found = scans.pair_losses(self.networks, self.task.data, config.batch_size, self.scanning, config.margin)
            self.p_clean = np.stack([self._posterior(mixture.scale_to_unit(x)) for x in found])
            self.labels = self.p_clean[::-1].copy()

    def train_epoch(self, epoch: int) -> Iterator[Scalars]:
        """Train the networks in turns: on all pairs in warm-up, then each on the other's split."""
        return self.turns.take(*(self._epoch(learner) for learner in (0, 1)))

    def pair_scores(self) -> Floats | None:
        """Return the mean of both networks' P(clean) at the latest split, (pairs,); None before the first one."""
        return None if self.p_clean is None else self.p_clean.mean(0)

    def soft_labels(self) -> Floats | None:
        """Return the mean of the labels that both networks train with, (pairs,); None before the first split.

        Labels are those of the latest epoch. A pair that a network has not trained on in this epoch, such as noisy
        pairs in the first half of training, has the P(clean) of the split that the network uses.
        """
        return None if self.p_clean is None else self.labels.mean(0)

    @abstractmethod
    def _warm_up_loss(self, similarities: Tensor) -> Tensor:
        """Return the loss of a warm-up batch from its similarities (B, B)."""

    @abstractmethod
    def _posterior(self, x: Floats) -> Floats:
        """Return P(clean) of every pair, (pairs,), from its loss, scaled to [0, 1]."""

    @abstractmethod
    def _update(self, learner: int, clean: Batch, p_clean: Floats, noisy: Batch | None) -> Scalars:
        """Train network `learner` on a clean batch with P(clean) `p_clean` (B,), and on a noisy one if given."""

    def _epoch(self, learner: int) -> Iterator[Scalars]:
        """Return the epoch of one network. Its batches are created now, so their order does not depend on the turns."""
        data, size, order = self.task.data, self.config.batch_size, self.orders[learner]
        if self.p_clean is None:
            return self._warm_up(learner, data.batches(size, order), until=self.config.warmup)
        p_clean = self.p_clean[1 - learner]
        clean = split(p_clean, self.config.clean_above)
        if clean.sum() < 2:
            return self._warm_up(learner, data.batches(size, order), until=1.0)
        noisy_batches = data.endless_batches(size, order, np.flatnonzero(~clean))
        return self._learn(learner, p_clean, data.batches(size, order, np.flatnonzero(clean)), noisy_batches)

    def _warm_up(self, learner: int, batches: Iterator[Batch], until: float) -> Iterator[Scalars]:
        """Train one network on batches of all pairs until that share of the budget is spent."""
        for batch in schedules.until(until, self.task.budget, batches):
            loss = self._warm_up_loss(self._train_forward(learner, batch))
            self.optimisers[learner].step(loss)
            yield {"loss": loss.item()}

    def _learn(
        self, learner: int, p_clean: Floats, clean_batches: Iterator[Batch], noisy_batches: Iterator[Batch]
    ) -> Iterator[Scalars]:
        """Train one network on the clean batches, and from a point of the budget on also on as many noisy ones."""
        noisy_from = self.config.warmup + self.config.noisy_after * (1 - self.config.warmup)
        for batch in clean_batches:
            noisy = next(noisy_batches, None) if self.task.budget.progress >= noisy_from else None
            yield self._update(learner, batch, p_clean[batch.pairs], noisy)

    def _train_forward(self, learner: int, batch: Batch) -> Tensor:
        similarities: Tensor = self.networks[learner].train()(*batch.inputs)
        return similarities

    def _step(self, learner: int, batch: Batch, labels: Tensor) -> float:
        """Update network `learner` once on `batch`, with hardest negatives and margins from `labels`; return the loss.

        Labels are (B,), or broadcast to (B, B): see `hinge_max_by_entry`. Their diagonal is kept for `soft_labels`.
        """
        self.labels[learner, batch.pairs] = labels.expand(len(batch), len(batch)).diagonal().cpu().numpy()
        similarities = self._train_forward(learner, batch)
        margins = losses.soft_margin(labels, self.config.margin)
        hinge = losses.hinge_max if labels.ndim == 1 else hinge_max_by_entry
        loss = hinge(similarities, margins)
        self.optimisers[learner].step(loss)
        return loss.item()

    def _n_surest(self, batch: Batch) -> int:
        return int(self.config.surest * len(batch)) + 1


def split(p_clean: Floats, above: float) -> NDArray[np.bool_]:
    """Return which pairs are clean: those with P(clean) above `above`.

    If all n pairs are clean, the n // 100 + 1 pairs with the smallest P(clean) become noisy (NCR).
    """
    if p_clean.min() <= above:
        return p_clean > above
    clean = np.ones(len(p_clean), dtype=bool)
    clean[np.argsort(p_clean, kind="stable")[: len(p_clean) // 100 + 1]] = False
    return clean


def agreement(S: Tensor, margin: float) -> Tensor:
    """Return (B,) in [0, margin]: how well each pair of a batch beats its negatives, margin - loss / 2 (NCR)."""
    return (margin - losses.pair_losses(S, margin) / 2).clamp(0, margin)


def hinge_max_by_entry(S: Tensor, margins: Tensor) -> Tensor:
    """Return the sum of hinges of hardest negatives, where image i against caption j has margin ij in both directions.

    `margins` broadcasts to the shape of S, (B, B). This is for the setting `labels=released` only: normally a margin
    belongs to a pair, and applies where the pair is the anchor (`ncbench.losses.hinge_max`).
    """
    matched = S.diagonal()
    diagonal = torch.eye(len(S), dtype=torch.bool, device=S.device)
    cost_s = (S + margins - matched[:, None]).clamp(min=0).masked_fill(diagonal, 0)
    cost_im = (S + margins - matched[None, :]).clamp(min=0).masked_fill(diagonal, 0)
    return cost_s.max(1).values.sum() + cost_im.max(0).values.sum()
