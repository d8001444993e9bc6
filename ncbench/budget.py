"""What a run may spend on training, and the meter that counts it.

Work is counted in floating-point operations by the backbones' cost formulas: the same on every machine. The unit that
users give is the *baseline epoch*: one pass of plain triplet training over the same pairs with the same backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ncbench.backbones.base import Backbone
    from ncbench.data.dataset import Captions

FORWARD_AND_BACKWARD = 3


class BudgetSpent(Exception):  # noqa: N818 - the regular end of training, not an error
    """The next piece of work does not fit into the budget any more."""


class WorkMeter:
    """Counts training work against a total, both in FLOPs; refuses what would exceed it before it is done."""

    def __init__(self, total: int) -> None:
        if total <= 0:
            raise ValueError(f"the total must be positive, found {total}")
        self.total = total
        self.used = 0
        self._paused = False

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]: what schedules are fractions of."""
        return self.used / self.total

    def charge(self, flops: int) -> None:
        """Count `flops`; raises BudgetSpent, counting nothing, if they do not fit."""
        if self._paused:
            return
        if self.used + flops > self.total:
            raise BudgetSpent
        self.used += flops

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside: evaluation is not training."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before


def baseline_epoch_work(backbone: Backbone, captions: Captions, batch_size: int) -> int:
    """Return the FLOPs of one epoch of plain triplet training: every pair once, forward and backward.

    Batches are taken in the order of the captions; the last one may be smaller.
    """
    n_regions = backbone.sizes.n_regions
    total = 0
    for start in range(0, len(captions), batch_size):
        lengths = captions.lengths[start : start + batch_size]
        values, counts = np.unique(lengths, return_counts=True)
        per_caption = sum(
            int(count)
            * (backbone.caption_work(int(length)) + len(lengths) * backbone.pair_work(n_regions, int(length)))
            for length, count in zip(values, counts, strict=True)
        )
        total += FORWARD_AND_BACKWARD * (len(lengths) * backbone.image_work(n_regions) + per_caption)
    return total
