"""GCE: generalised cross-entropy in contrastive form, a bounded loss (Zhang & Sabuncu, NeurIPS 2018).

With p the probability that a softmax over the batch gives to a pair, the loss is (1 - p^q) / q. It lies between
cross-entropy (q -> 0, `infonce`) and the mean absolute error (q = 1; Ghosh et al., AAAI 2017). It is at most 1 / q, and
its gradient is that of cross-entropy times p^q, so a pair that a network does not believe hardly trains.

Departures from the paper:

* It classifies images. Here the classes of an image are the captions of the batch, and those of a caption its images;
  both directions are added, as in `infonce`.
* The truncated variant, which drops pairs with a small p, is left out.
* Schedules are shares of the budget. They and the temperature are those of `infonce`, so that both differ in the loss
  only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ncbench import Batch, SingleNetwork, TrainingSettings, losses, setting


class GCE(SingleNetwork):
    """Contrastive training with a bounded loss; q = 1 is the mean absolute error."""

    name = "gce"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the paper has none for image-text data."""

        tau: float = setting(0.05, "temperature of the softmax, in units of similarity", "as infonce", above=0)
        q: float = setting(0.7, "0 is cross-entropy, 1 is the mean absolute error", "GCE", above=0, at_most=1)

    presets = {
        "coco": {"decay_every": 1 / 3},  # as infonce
        "cc152k": {"decay_every": 0.4},
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0025, "tau": 0.04, "q": 0.45},
        "scenes-large": {"lr": 1e-3},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the bounded loss of a batch: a mean over queries, both directions added."""
        return gce(similarities, self.config.tau, self.config.q)


def gce(S: Tensor, tau: float, q: float) -> Tensor:
    """Return the generalised cross-entropy of similarities (B, B) with the pairs on the diagonal."""
    log_p = losses.log_matching(S, tau).diagonal(dim1=1, dim2=2)
    return (-(q * log_p).expm1() / q).mean(1).sum()
