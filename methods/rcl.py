"""RCL: robust contrastive learning with complementary labels (Hu et al., TPAMI 2023).

"These two do not match" is right far more often than "these two match". Each query learns only from the captions (or
images) of the batch that are not its own: the loss grows with their probability, and a mismatched pair is never pulled
together. There is no selection of pairs, no second network and no warm-up.

Departures from the released code:

* 1 - p is computed in log space, as the sum of the other probabilities. The released code subtracts p from 1 and adds
  1e-10. In single precision this is 0 or noise once a negative wins by 16 nats, as happens with mismatched pairs. Its
  loss is at most 23 there, with a gradient of rounding errors. The values are the same elsewhere.
* At least one negative is drawn if `ratio` is below one over the batch size; the released loss is 0 then.
* Negatives are drawn at random only if `ratio` is below 1, by a separate generator.
* Schedules are shares of the budget.

The settings are those of the released scripts. The README of the code has others for Flickr30K: a learning rate of
5e-4, cut after 30 of 40 epochs (SGR) or 20 of 30 (SAF). The script is more recent. Nothing is published for CC152K,
where the defaults apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ncbench import Batch, SingleNetwork, Task, TrainingSettings, setting

FORMS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "log": lambda log_rest, q: -log_rest,
    "tan": lambda log_rest, q: (-log_rest.expm1()).tan(),
    "abs": lambda log_rest, q: -log_rest.expm1(),
    "exp": lambda log_rest, q: (-log_rest.exp()).exp(),
    "gce": lambda log_rest, q: -(q * log_rest).expm1() / q,
}
"""What the probability p of a negative costs, from log(1 - p) and q: -log(1 - p), tan p, p, exp(p - 1), and generalised
cross-entropy (1 - (1 - p)^q) / q. Source: RCL, model.py."""


def log_complement(logits: Tensor) -> Tensor:
    """Return log(1 - p) for p = softmax of each row of `logits`, (n, m) with m > 1; exact also where p is nearly 1."""
    log_p = logits.log_softmax(1)
    largest = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, log_p.argmax(1, keepdim=True), True)
    log_others = log_p.masked_fill(largest, -math.inf)
    return torch.where(largest, log_others.logsumexp(1, keepdim=True), torch.log1p(-log_others.exp()))


def complementary_loss(S: Tensor, tau: float, negatives: Tensor, form: str = "log", q: float = 0.2) -> Tensor:
    """Return the cost of the probabilities of negatives: summed over them, a mean over queries, both directions added.

    S is (B images, B captions); p = softmax(S / tau) over captions for image queries, over images for caption queries.
    `negatives` (B, B) bool is False on the diagonal: row i selects the negatives of image i and of caption i.
    """
    cost = FORMS[form]
    of_images, of_captions = (cost(log_complement(logits), q) for logits in (S / tau, S.T / tau))
    return ((of_images + of_captions) * negatives).sum(1).mean()


class RCL(SingleNetwork):
    """Learns from complementary labels: from what does not match, instead of from claimed pairs."""

    name = "rcl"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those of the released script for Flickr30K."""

        lr: float = setting(2e-4, "learning rate of Adam", "RCL train_f30k.sh (README: 5e-4)", above=0)
        decay_every: float = setting(
            0.5,
            "share of the budget between tenfold cuts of lr",
            "RCL train_f30k.sh: 15 of 30 epochs (README: SGR 30 of 40, SAF 20 of 30)",
            above=0,
        )
        tau: float = setting(0.05, "temperature of the softmax, in units of similarity", "RCL train_f30k.sh", above=0)
        form: Literal["log", "tan", "abs", "exp", "gce"] = setting(
            "log", "how the probability of a negative becomes a loss", "RCL train_f30k.sh"
        )
        q: float = setting(0.2, "exponent of the form gce", "RCL train_f30k.sh (margin)", above=0, at_most=1)
        ratio: float = setting(
            1.0,
            "negatives per query, as a share of the batch; 1: all",
            "RCL opts.py",
            above=0,
            at_most=1,
        )

    published_epochs = {"f30k": 30, "coco": 20}
    presets = {
        "coco": {"lr": 5e-4, "decay_every": 0.5},  # train_coco.sh: 10 of 20 epochs, the learning rate of opts.py
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0033, "tau": 0.12, "decay_every": 0.63},
        "scenes-large": {"lr": 1e-3},
    }

    def setup(self, task: Task) -> None:
        """Build the network and the generator of the negatives."""
        super().setup(task)
        self.draws = task.rng("negatives")

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the complementary loss of a batch."""
        config = self.config
        negatives = self._negatives(len(batch)).to(similarities.device)
        return complementary_loss(similarities, config.tau, negatives, config.form, config.q)

    def _negatives(self, size: int) -> Tensor:
        """Return (size, size) bool: all entries off the diagonal, or a random share `ratio` of every row."""
        if self.config.ratio == 1:
            return ~torch.eye(size, dtype=torch.bool)
        count = min(max(1, int(self.config.ratio * size)), size - 1)
        keys = self.draws.random((size, size))
        np.fill_diagonal(keys, 1.0)  # sorts behind all others
        return torch.from_numpy(keys.argsort(1).argsort(1) < count)
