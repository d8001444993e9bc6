"""What a method sees of the training set: features, captions and the claimed pairs; never the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncbench.data.dataset import Captions, ImageFeatures, IntVector

READ_AHEAD = 2**20
"""Numbers from which on the features of the next batch are read while this one is trained on."""


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
        self._kept: dict[str, Batches] = {}
        self._waiting: dict[str, Batches] = {}
        self._midway = False
        self._reader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._captions)

    @property
    def n_images(self) -> int:
        """Number of training images."""
        return len(self._images)

    def images(self, numbers: IntVector) -> Tensor:
        """Return the features (n, R, D) float32 of images by number."""
        return self._moved(self._read(numbers))

    def batch(self, pairs: IntVector, images: IntVector | None = None) -> Batch:
        """Return some pairs, in the given order; with other `images`, by number, in the place of the claimed ones."""
        return self._batch(pairs, self._read(self.claimed[pairs] if images is None else images))

    def _read_ahead(self, pairs: IntVector) -> Callable[[], Batch]:
        """Return what returns the batch of `pairs`, whose features a thread reads meanwhile, if they are many bytes."""
        if not self._images.on_disk or len(pairs) * self._images.n_regions * self._images.dim < READ_AHEAD:
            return lambda: self.batch(pairs)
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="ncbench-reader")
        features = self._reader.submit(self._read, self.claimed[pairs])
        return lambda: self._batch(pairs, features.result())

    def _read(self, numbers: IntVector) -> Tensor:
        """Return features on the CPU; in pinned memory, which a GPU can copy while it computes, where there is one."""
        shape = (len(numbers), self._images.n_regions, self._images.dim)
        features = torch.empty(shape, pin_memory=self._device.type == "cuda")
        self._images.take(numbers, features.numpy())
        return features

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=tensor.is_pinned() if self._device.type == "cuda" else False)

    def _batch(self, pairs: IntVector, features: Tensor) -> Batch:
        tokens, lengths = self._captions.padded(pairs)
        return Batch(
            pairs=pairs,
            images=self._moved(features),
            tokens=torch.from_numpy(tokens).to(self._device),
            lengths=torch.from_numpy(lengths),
        )

    def batches(
        self,
        size: int,
        rng: np.random.Generator,
        pairs: IntVector | None = None,
        drop_last: bool = False,
        keep: str | None = None,
    ) -> Iterator[Batch]:
        """Yield all `pairs` (default: every pair) once, shuffled by `rng`, `size` at a time.

        A last batch that is smaller is dropped on request; one of a single pair always is (it has no negatives).
        What is to `keep` under a name, of which an epoch has one at a time, is part of a checkpoint: in an epoch that
        goes on from its middle it yields what was still to come, and takes nothing from `rng`.
        """
        found = None if keep is None else self._waiting.pop(keep, None)
        if found is None:
            order = rng.permutation(np.arange(len(self)) if pairs is None else pairs)
            found = Batches(self, order, size, drop_last)
        if keep is not None:
            self._kept[keep] = found
        return found

    @property
    def midway(self) -> bool:
        """Whether this epoch goes on from a checkpoint in its middle: what was found at its start need not be again."""
        return self._midway

    def begin_epoch(self) -> None:
        """Forget what the last epoch kept."""
        self._kept.clear()
        self._waiting.clear()
        self._midway = False

    def state_dict(self) -> dict[str, Any]:
        """Return what an epoch needs to go on from its middle: the batches that it keeps."""
        return {name: batches.state_dict() for name, batches in {**self._waiting, **self._kept}.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned: the epoch that follows is the rest of that one."""
        self.begin_epoch()
        self._waiting = {name: Batches(self, **kept) for name, kept in state.items()}
        self._midway = True


class Batches(Iterator[Batch]):
    """Pairs in a given order, a batch of `size` at a time, from `position` on; see `TrainingView.batches`."""

    def __init__(self, view: TrainingView, order: IntVector, size: int, drop_last: bool, position: int = 0) -> None:
        self._view, self._order, self._size, self._drop_last = view, order, size, drop_last
        self._position = position
        self._next: Callable[[], Batch] | None = None  # how to get the batch at `position`, if it is being read

    def __next__(self) -> Batch:
        read = self._next or self._ahead()
        if read is None:
            raise StopIteration
        self._position += self._size
        batch = read()
        self._next = self._ahead()
        return batch

    def _ahead(self) -> Callable[[], Batch] | None:
        """Begin to read the batch at `position`; None where there is none."""
        chosen = self._order[self._position : self._position + self._size]
        if len(chosen) < 2 or (self._drop_last and len(chosen) < self._size):
            return None
        return self._view._read_ahead(chosen)

    def state_dict(self) -> dict[str, Any]:
        """Return the arguments that make its like, but for the view."""
        return {
            "order": self._order,
            "size": self._size,
            "drop_last": self._drop_last,
            "position": self._position,
        }
