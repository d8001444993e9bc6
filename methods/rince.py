"""RINCE: robust InfoNCE, a contrastive loss between InfoNCE and a symmetric one (Chuang et al., CVPR 2022).

With s+ the similarity of a pair, and s- those to its negatives, over a temperature:

    -exp(q s+) / q + (lambda (exp(s+) + sum exp(s-)))^q / q

For q -> 0 it is InfoNCE. For q = 1 it is symmetric: noise in the pairs then changes the scale of the risk, not its
minimum. Pairs that a network fits badly weigh less the larger q is, so mismatched pairs, which it fits last, do little.

Departures from the released code:

* It compares two views of images. Here images are compared with captions, and the two directions are added, as in
  `infonce`.
* q is 0.1. With MoCo v3 the authors use 0.6 at a temperature of 0.2. The loss is not invariant to a shift of all
  similarities, and at the temperature of 0.05 that is usual for this task, powers of exponentials are so far apart that
  with q = 0.6 all vectors collapse to one: dev rSum 13, and 419 with q = 0.1 (`ncbench run --dataset scenes-vectors
  --method rince --variant rince.q=0.6 --noise 0.4 --seed 100`).
* The sum of exponentials is computed in log space: the same values, without an overflow.
* Schedules are shares of the budget. They and the temperature are those of `infonce`, so that both differ in the loss
  only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ncbench import Batch, SingleNetwork, TrainingSettings, setting


class RINCE(SingleNetwork):
    """Contrastive training with robust InfoNCE, which gives badly fitted pairs less weight."""

    name = "rince"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the paper has none for image-text data."""

        tau: float = setting(0.05, "temperature, in units of similarity", "as infonce", at_least=0.01)
        q: float = setting(0.1, "0 is InfoNCE, 1 is symmetric", "see module", above=0, at_most=1)
        density: float = setting(
            0.01,
            "weight of all similarities against that of the pair (lambda)",
            "RINCE with MoCo v3",
            above=0,
            at_most=1,
        )

    presets = {
        "coco": {"decay_every": 1 / 3},  # as infonce
        "cc152k": {"decay_every": 0.4},
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.00097, "tau": 0.11, "q": 0.088},
        "scenes-large": {"lr": 1e-3},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the robust loss of a batch: a mean over queries, both directions added."""
        return rince(similarities, self.config.tau, self.config.q, self.config.density)


def rince(S: Tensor, tau: float, q: float, density: float) -> Tensor:
    """Return RINCE of similarities (B, B) with the pairs on the diagonal; `density` is the paper's lambda."""
    logits = S / tau
    positive = (q * logits.diagonal()).exp()
    everything = sum((q * (logits.logsumexp(dim) + math.log(density))).exp() for dim in (0, 1))
    return ((everything - 2 * positive) / q).mean()
