"""What a method sees of the training set: features, captions and the claimed pairs; never the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncbench.data.dataset import Captions, ImageFeatures, IntVector


@dataclass(frozen=True)
class Batch:
    """Pairs on a device: images (B, R, D) float32, tokens (B, L) int64; lengths (B,) and pair numbers stay on the CPU.

    Row i of `images` is the image that pair i claims for caption i.
    """

    pairs: IntVector
    images: Tensor
    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.pairs)


class TrainingView:
    """The claimed pairs of a training set; pair p is caption p with image `claimed[p]`."""

    def __init__(self, images: ImageFeatures, captions: Captions, claimed: IntVector, device: torch.device) -> None:
        self._images, self._captions, self._device = images, captions, device
        self.claimed = claimed.copy()
        self.claimed.setflags(write=False)

    def __len__(self) -> int:
        return len(self._captions)

    @property
    def n_images(self) -> int:
        """Number of training images."""
        return len(self._images)

    def images(self, numbers: IntVector) -> Tensor:
        """Return the features (n, R, D) float32 of images by number."""
        return torch.from_numpy(self._images.take(numbers)).to(self._device)

    def batch(self, pairs: IntVector, images: IntVector | None = None) -> Batch:
        """Return some pairs, in the given order; with other `images`, by number, in the place of the claimed ones."""
        tokens, lengths = self._captions.padded(pairs)
        return Batch(
            pairs=pairs,
            images=self.images(self.claimed[pairs] if images is None else images),
            tokens=torch.from_numpy(tokens).to(self._device),
            lengths=torch.from_numpy(lengths),
        )

    def batches(
        self, size: int, rng: np.random.Generator, pairs: IntVector | None = None, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Yield all `pairs` (default: every pair) once, shuffled by `rng`, `size` at a time.

        A last batch that is smaller is dropped on request; one of a single pair always is (it has no negatives).
        """
        order = rng.permutation(np.arange(len(self)) if pairs is None else pairs)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            if len(chosen) > 1 and not (drop_last and len(chosen) < size):
                yield self.batch(chosen)
