"""The numbers of training captions and images in one run, and their translation to those of the dataset.

Datasets store the captions of an image side by side, so their numbers tell which pairs are matched. A method therefore
sees other numbers, drawn from the seed of the run; records have those of the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, ImageFeatures, IntVector
from ncbench.data.training_view import TrainingView
from ncbench.method.base import Plan, Rematches
from ncbench.runtime.seeds import derive_rng

Values = TypeVar("Values", bound=np.generic)


@dataclass(frozen=True)
class Numbering:
    """Renumbers the training pairs: caption k of a method is caption `captions[k]` of the dataset, images alike.

    `captions` and `images` are permutations, int64. Nothing that a method can reach may lead to `captions`. Raises
    ValueError if they are no permutations.
    """

    captions: IntVector
    images: IntVector
    _new_captions: IntVector = field(init=False, repr=False, compare=False)
    _new_images: IntVector = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_new_captions", inverse(self.captions))
        object.__setattr__(self, "_new_images", inverse(self.images))

    @classmethod
    def draw(cls, n_captions: int, n_images: int, seed: int, noise_digest: str = "") -> Numbering:
        """Return the numbering of a run with `seed`; the captions are drawn first.

        With the digest of its noise, the numbering cannot be guessed without the noise itself.
        """
        rng = derive_rng(seed, "numbering", noise_digest)
        return cls(rng.permutation(n_captions), rng.permutation(n_images))

    @classmethod
    def unchanged(cls, n_captions: int, n_images: int) -> Numbering:
        """Return the numbering that keeps the numbers of the dataset."""
        return cls(np.arange(n_captions), np.arange(n_images))

    def view(self, images: ImageFeatures, captions: Captions, claimed: IntVector, device: torch.device) -> TrainingView:
        """Return what a method sees of the training pairs `claimed`, (captions,) numbers of images in the dataset.

        Captions are copied without their texts. Features are not copied: the view holds the order of the images, which
        tells nothing without that of the captions.
        """
        shown = self._new_images[claimed[self.captions]]
        return TrainingView(images.reordered(self.images), captions.reordered(self.captions), shown, device)

    def shown(self, values: NDArray[Values]) -> NDArray[Values]:
        """Return one value per pair, (pairs, ...), in the order of the method."""
        return values[self.captions]

    def shown_pairs(self, pairs: IntVector) -> IntVector:
        """Return the method's numbers of `pairs`, ascending."""
        return np.sort(self._new_captions[pairs])

    def restored(self, values: NDArray[Values]) -> NDArray[Values]:
        """Return one value per pair, (pairs, ...) in the order of the method, in that of the dataset.

        Raises ValueError for another number of values.
        """
        if len(values) != len(self.captions):
            raise ValueError(f"expected one value for each of {len(self.captions)} training pairs, found {len(values)}")
        return values[self._new_captions]

    def restored_pairs(self, pairs: IntVector) -> IntVector:
        """Return the numbers in the dataset of the method's `pairs`, ascending. Raises ValueError for other numbers."""
        return np.sort(_looked_up(self.captions, pairs, "captions"))

    def restored_rematches(self, found: Rematches) -> Rematches:
        """Return rematches with the numbers of the dataset, by caption. Raises ValueError for numbers out of range."""
        captions = _looked_up(self.captions, found.captions, "captions")
        images = _looked_up(self.images, found.images, "images")
        order = np.argsort(captions, kind="stable")
        return Rematches(captions[order], images[order], found.weights[order])

    def restored_plan(self, plan: Plan) -> Plan:
        """Return a plan with the numbers of the dataset. Raises ValueError for numbers out of range."""
        captions = _looked_up(self.captions, plan.captions, "captions")
        return Plan(captions, _looked_up(self.images, plan.images, "images"), plan.mass)


def inverse(order: IntVector) -> IntVector:
    """Return where each number is in `order`, a permutation. Raises ValueError for another vector."""
    found: IntVector = np.argsort(order, kind="stable")
    if not np.array_equal(order[found], np.arange(len(order))):
        raise ValueError(f"expected a permutation of {len(order)} numbers")
    return found


def _looked_up(order: IntVector, numbers: NDArray[Any], what: str) -> IntVector:
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(order)):
        raise ValueError(f"numbers of {what} must be in [0, {len(order)}), found {numbers.min()} to {numbers.max()}")
    found: IntVector = order[numbers]
    return found
