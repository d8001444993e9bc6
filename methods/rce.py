"""RCE: the warm-up loss of L2RM, used for the whole training.

Half cross-entropy, half reverse cross-entropy, in which predictions and labels change places (symmetric cross entropy:
Wang et al., ICCV 2019; L2RM: Han et al., CVPR 2024). The reverse half grows only linearly in the probability that a
pair lacks, so a mismatched pair costs little. It shows how much of L2RM is due to its warm-up.

Departures from the released code:

* L2RM uses the loss for 5 of 40 epochs at a constant learning rate, and never alone. The schedule here is that of L2RM
  without its warm-up, so that `infonce` and `rce` differ in the loss only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ncbench import Batch, SingleNetwork, TrainingSettings, losses, setting


class RCE(SingleNetwork):
    """Contrastive training with a robust loss: half of it is reverse cross-entropy."""

    name = "rce"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        """Hyper-parameters; the defaults are those published for Flickr30K."""

        tau: float = setting(0.05, "temperature of the softmax, in units of similarity", "L2RM opt.py", above=0)

    presets = {
        "coco": {"decay_every": 1 / 3},  # L2RM: 10 of 30 epochs
        "cc152k": {"decay_every": 0.4},  # L2RM: 20 of 50 epochs
        # the best trial of benchmarks/search.py
        "scenes": {"lr": 0.0026, "tau": 0.073, "decay_every": 0.35},
        "scenes-large": {"lr": 1e-3},
    }

    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the robust loss of a batch."""
        return losses.rce(similarities, self.config.tau)
