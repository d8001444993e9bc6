"""L2RM with a stricter split, or a robust loss for the pairs that it keeps as clean: an experiment, not a new method.

At a noise ratio of 0.8, a third of the pairs that L2RM keeps are wrong, and train on their hardest negatives. Is that
why it is not the best there? `python benchmarks/board.py split` changes one of the two at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ncbench import Batch, losses, setting
from ncbench_methods.l2rm import L2RM


class L2RMSplit(L2RM):
    """L2RM with a threshold of the split and a loss of its clean pairs that can be chosen."""

    name = "l2rm-split"

    @dataclass(frozen=True)
    class Config(L2RM.Config):
        """Hyper-parameters of L2RM, and two of the experiment; the defaults are L2RM's."""

        threshold: float = setting(0.5, "P(clean) above which pairs are kept as clean", "L2RM", above=0, at_most=0.999)
        clean_loss: Literal["hinge_max", "rce"] = setting("hinge_max", "of the pairs that are kept as clean", "L2RM")

    config: Config

    def begin_epoch(self, epoch: int) -> None:
        """Split the pairs at the threshold, once warm-up is over."""
        super().begin_epoch(epoch)
        if self.p_clean is not None and self.config.split == "mixture":
            self.p_clean = recentred(self.p_clean, self.config.threshold)

    def _clean_loss(self, clean: Batch) -> Tensor:
        if self.config.clean_loss == "rce":
            return losses.rce(self._similarities(clean.images, clean), self.config.tau)
        return super()._clean_loss(clean)


def recentred(p_clean: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Return probabilities (pairs,) in the same order, with 0.5 where `p_clean` is `threshold`, and 0 and 1 kept."""
    return np.interp(p_clean, [0.0, threshold, 1.0], [0.0, 0.5, 1.0])
