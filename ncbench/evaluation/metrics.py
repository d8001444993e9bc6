"""Scores as metric objects in the manner of torchmetrics: update, compute, reset, and gathering across processes.

They need the extra `ncbench[metrics]`, and compute what `ncbench.evaluate` and `ncbench.detect` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ncbench.errors import ArgumentError, UserError
from ncbench.evaluation.beliefs import detect
from ncbench.evaluation.retrieval import evaluate
from ncbench.runtime.array_like import Numbers, as_booleans, as_floats, as_integers

try:
    from torchmetrics import Metric
except ImportError:

    class Metric:  # type: ignore[no-redef]
        """Stands for torchmetrics where it is not installed."""

        def __init__(self, **words: Any) -> None:
            raise UserError("metric objects need torchmetrics; install it with: pip install 'ncbench[metrics]'")


SIDES, SCORES = ("i2t", "t2i"), ("r1", "r5", "r10", "medr", "meanr")
DETECTION = ("auc", "precision", "recall", "calibration_error")


class RetrievalMetric(Metric):  # type: ignore[misc]
    """Retrieval in both directions, as `ncbench.evaluate`: recalls in percent, median and mean ranks, and `rsum`.

    `true` (captions,) is the image of each caption of the split, `folds` as in `evaluate`. `update` gets rows of the
    similarity matrix, in any order and from any process. `compute` returns scalars by name: `i2t_r1` to `i2t_meanr`,
    `t2i_r1` to `t2i_meanr`, and `rsum`. Other arguments are those of `torchmetrics.Metric`. Raises UserError without
    torchmetrics.
    """

    full_state_update, is_differentiable, higher_is_better = False, False, True

    if TYPE_CHECKING:
        rows: list[Tensor]
        images: list[Tensor]

    def __init__(self, true: Numbers, folds: int = 1, **words: Any) -> None:
        super().__init__(**words)
        self.true, self.folds = as_integers("true", true), folds
        self.n_images = int(self.true.max(initial=-1)) + 1
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("images", [], dist_reduce_fx="cat")

    def update(self, similarities: Tensor, images: Numbers) -> None:
        """Add the similarities (B, captions) of some images, whose numbers are `images` (B,).

        An image that comes twice, as samplers of several processes repeat some, counts once. Raises ArgumentError.
        """
        numbers = as_integers("images", images)
        expected = (len(numbers), len(self.true))
        if numbers.ndim != 1 or tuple(similarities.shape) != expected:
            raise ArgumentError(
                f"similarities: expected those of {numbers.size} images and all {len(self.true)} captions, found shape "
                f"{tuple(similarities.shape)}"
            )
        if len(numbers) and numbers.min() < 0:
            raise ArgumentError(f"images: expected numbers of at least 0, found {numbers.min()}")
        self.rows.append(similarities.detach())
        self.images.append(torch.from_numpy(numbers).to(similarities.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of the whole split. Raises ArgumentError if the similarities of an image are missing."""
        rows, numbers = as_floats("similarities", _joined(self.rows)), as_integers("images", _joined(self.images))
        found, first = np.unique(numbers, return_index=True)
        count = max(self.n_images, int(found.max(initial=-1)) + 1)
        if len(found) < count:
            missing = np.setdiff1d(np.arange(count), found)
            raise ArgumentError(
                f"similarities: {len(missing)} of {count} images are missing, for example image {missing[0]}; "
                "update with all of them"
            )
        scores = evaluate(rows[first], self.true, self.folds)
        values = {f"{side}_{name}": getattr(getattr(scores, side), name) for side in SIDES for name in SCORES}
        return {name: torch.tensor(value) for name, value in {**values, "rsum": scores.rsum}.items()}


class DetectionMetric(Metric):  # type: ignore[misc]
    """How well P(clean) finds mismatched pairs, as `ncbench.detect`.

    `compute` returns scalars by name: `auc`, `precision`, `recall` and `calibration_error`, NaN where `detect` says
    None. Arguments are those of `torchmetrics.Metric`. Raises UserError without torchmetrics.
    """

    full_state_update, is_differentiable, higher_is_better = False, False, True

    if TYPE_CHECKING:
        p_clean: list[Tensor]
        clean: list[Tensor]

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.add_state("p_clean", [], dist_reduce_fx="cat")
        self.add_state("clean", [], dist_reduce_fx="cat")

    def update(self, p_clean: Numbers, clean: Numbers) -> None:
        """Add pairs: `p_clean` (B,) in [0, 1], and which are `clean`, (B,) bool. Raises ArgumentError."""
        beliefs, truth = as_floats("p_clean", p_clean), as_booleans("clean", clean)
        if beliefs.ndim != 1 or beliefs.shape != truth.shape:
            raise ArgumentError(
                f"p_clean: expected one P(clean) per pair of `clean`, found shapes {beliefs.shape} and {truth.shape}"
            )
        self.p_clean.append(torch.from_numpy(beliefs.astype(np.float64)).to(self.device))
        self.clean.append(torch.from_numpy(truth).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of all pairs. Raises ArgumentError without any, and for values outside [0, 1]."""
        found = detect(_joined(self.p_clean), _joined(self.clean).bool())
        values = {name: getattr(found, name) for name in DETECTION}
        return {name: torch.tensor(float("nan") if value is None else value) for name, value in values.items()}


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """Return the parts of a state in one: gathering across processes has joined them already."""
    if isinstance(parts, Tensor):
        return parts
    return torch.cat(parts) if parts else torch.empty(0)
