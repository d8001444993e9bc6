"""The numbers under which a method sees captions and images: drawn for each run, so that they tell nothing.

Data sets store the captions of an image next to each other, in the order of the images. Under their own numbers, pair p
of five captions per image truly belongs to image p // 5, and `claimed == arange(n) // 5` says which pairs are clean.
A method therefore gets captions and images in random order, and the harness translates what it says of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, ImageFeatures, IntVector
from ncbench.data.training_view import TrainingView
from ncbench.method.base import Plan, Rematches
from ncbench.runtime.seeds import derive_rng

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Numbering:
    """Caption c of the method is caption `captions[c]` of the data set, and image i is image `images[i]`."""

    captions: IntVector
    images: IntVector

    @classmethod
    def draw(cls, n_captions: int, n_images: int, seed: int) -> Numbering:
        """Return random numbers that depend on the seed of the run alone."""
        rng = derive_rng(seed, "numbering")
        return cls(rng.permutation(n_captions), rng.permutation(n_images))

    def view(self, images: ImageFeatures, captions: Captions, claimed: IntVector, device: torch.device) -> TrainingView:
        """Return the claimed pairs of a training split as the method sees them.

        Captions are copied in their new order, so that nothing in the view says which numbers they had.
        """
        numbers = np.argsort(self.images)
        return TrainingView(
            images.reordered(self.images), captions.reordered(self.captions), numbers[claimed[self.captions]], device
        )

    def shown(self, of_pairs: NDArray[T]) -> NDArray[T]:
        """Return values of pairs, (pairs,), in the order in which the method has them."""
        return of_pairs[self.captions]

    def shown_pairs(self, pairs: IntVector) -> IntVector:
        """Return the method's numbers of `pairs`, (n,), ascending."""
        return np.sort(np.argsort(self.captions)[pairs])

    def restored(self, of_pairs: NDArray[Any]) -> NDArray[Any]:
        """Return what a method says of its pairs, (pairs,), in the order of the data set."""
        found = np.empty_like(of_pairs)
        found[self.captions] = of_pairs
        return found

    def restored_rematches(self, found: Rematches) -> Rematches:
        """Return rematches by the numbers of the data set."""
        return Rematches(self.captions[found.captions], self.images[found.images], found.weights)

    def restored_plan(self, plan: Plan) -> Plan:
        """Return a transport plan by the numbers of the data set."""
        return Plan(self.captions[plan.captions], self.images[plan.images], plan.mass)
