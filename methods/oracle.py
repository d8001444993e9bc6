"""Oracle: triplet training that is told which pairs are mismatched, and leaves them out.

Nobody can know this outside a benchmark, so it is a reference and no contestant: what a method could reach that finds
every mismatched pair and gains nothing from them. A method that scores higher makes use of mismatched pairs.

Settings, loss and schedule are those of `triplet`; an epoch is one pass over the clean pairs, so that the budget pays
for more epochs of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench import Task, UserError
from ncbench_methods.triplet import Triplet


class Oracle(Triplet):
    """Triplet training on the truly clean pairs only; a reference, as it is told which those are."""

    name = "oracle"
    needs_truth = True

    presets = {
        **Triplet.presets,
        "scenes": {"batch_size": 32, "lr": 0.0026, "margin": 0.1, "warmup": 0.62},
        "scenes-large": {"batch_size": 32, "lr": 2e-3},
    }

    def setup(self, task: Task) -> None:
        """Do what triplet does, and note the clean pairs. Raises UserError if there are fewer than two of them."""
        if task.truth is None:
            raise ValueError("oracle must be told which pairs are clean, task.truth is None")
        super().setup(task)
        self.clean = np.flatnonzero(task.truth)
        if len(self.clean) < 2:
            raise UserError(f"oracle needs two clean pairs to train on, found {len(self.clean)}; lower --noise.")

    def pairs(self) -> NDArray[np.int64]:
        """Return the clean pairs."""
        return self.clean
