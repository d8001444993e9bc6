"""InfoNCE: plain contrastive training, a baseline that trusts every pair.

A pair must win a softmax over the captions of the batch and one over its images (van den Oord et al., 2018; for images
and text as in CLIP: Radford et al., ICML 2021). The code of RCL and L2RM includes it for comparison.

Departures from the released codes:

* The softmax is computed in log space. Theirs exponentiate first, with the same values for bounded similarities.
* Schedules are shares of the budget. They are those of L2RM, so that `infonce` and `rce` differ in the loss only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ncbench import Batch, SingleNetwork, TrainingSettings, losses, setting


class InfoNCE(SingleNetwork):
    """Plain contrastive training; no defence against mismatched pairs."""

    name = "infonce"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        tau: float = setting(0.05, "temperature of the softmax, in units of similarity", "L2RM opt.py", above=0)

    presets = {
        "coco": {"decay_every": 1 / 3},  # L2RM: 10 of 30 epochs
        "cc152k": {"decay_every": 0.4},  # L2RM: 20 of 50 epochs
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0023, "tau": 0.14, "decay_every": 0.76},
        "scenes-large": {"lr": 1e-3},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the contrastive loss of a batch."""
        return losses.info_nce(similarities, self.config.tau)
