"""What a method sees of the training set: features, captions and the claimed pairs; never the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncbench.data.dataset import Captions, ImageFeatures, IntVector

MIN_NUMBERS_TO_PREFETCH = 2**20
"""The features of the next batch are read in a thread, during training, if they are at least so many numbers."""

MIN_BATCH = 2
"""A single pair has no negatives."""


@dataclass(frozen=True)
class Batch:
    """Pairs on a device: images (B, R, D) float32, tokens (B, L) int64; lengths (B,) and pair numbers are on the CPU.

    Row i of `images` is the image that pair i claims for caption i.
    """

    pairs: IntVector
    images: Tensor
    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, tokens and lengths: the arguments of a backbone, as in `backbone(*batch.inputs)`."""
        return self.images, self.tokens, self.lengths


class TrainingView:
    """The claimed pairs of a training set; pair p is caption p with image `claimed[p]`.

    Batches that a method creates in `train_epoch` are part of a checkpoint. When an interrupted epoch is resumed,
    `train_epoch` is called again, and the k-th batches that it creates continue where the k-th ones were.
    """

    def __init__(self, images: ImageFeatures, captions: Captions, claimed: IntVector, device: torch.device) -> None:
        self._images, self._captions, self._device = images, captions, device
        self.claimed = claimed.copy()
        self.claimed.setflags(write=False)
        self._recording = False
        self._recorded: list[Batches] = []
        self._resumed: list[IntVector | None] = []
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
        """Return some pairs, in the given order; with `images`, by number, instead of the claimed ones if given."""
        return self._batch(pairs, self._read(self.claimed[pairs] if images is None else images))

    def _prefetch(self, pairs: IntVector) -> Callable[[], Batch]:
        """Return a function that returns the batch of `pairs`; if it is large, a thread begins to read its features."""
        if not self._images.on_disk or len(pairs) * self._images.n_regions * self._images.dim < MIN_NUMBERS_TO_PREFETCH:
            return lambda: self.batch(pairs)
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="ncbench-reader")
        features = self._reader.submit(self._read, self.claimed[pairs])
        return lambda: self._batch(pairs, features.result())

    def _read(self, numbers: IntVector) -> Tensor:
        """Return features on the CPU; for a GPU in pinned memory, which is copied while it computes."""
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
        self, size: int, rng: np.random.Generator, pairs: IntVector | None = None, drop_last: bool = False
    ) -> Batches:
        """Return an iterator over all `pairs` (default: every pair), shuffled by `rng`, `size` at a time.

        A smaller last batch is kept unless `drop_last`; one of a single pair is always dropped, as it has no negatives.
        Nothing is drawn from `rng` before the first batch is taken. In `train_epoch`, create batches in the same order
        whenever the epoch is started again, see `TrainingView`.
        """
        return self._created(size, rng, pairs, drop_last, endless=False)

    def endless_batches(
        self, size: int, rng: np.random.Generator, pairs: IntVector | None = None, drop_last: bool = False
    ) -> Batches:
        """Return what `batches` returns, but start again, newly shuffled, after each pass.

        It yields nothing if `pairs` do not make a batch.
        """
        return self._created(size, rng, pairs, drop_last, endless=True)

    def _created(
        self, size: int, rng: np.random.Generator, pairs: IntVector | None, drop_last: bool, endless: bool
    ) -> Batches:
        left = None
        if self._recording and len(self._recorded) < len(self._resumed):
            left = self._resumed[len(self._recorded)]
        batches = Batches(self, size, rng, np.arange(len(self)) if pairs is None else pairs, drop_last, endless, left)
        if self._recording:
            self._recorded.append(batches)
        return batches

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Make the batches created inside part of the epoch's state. The training loop runs `train_epoch` inside."""
        before, self._recording = self._recording, True
        try:
            yield
        finally:
            self._recording = before

    def new_epoch(self) -> None:
        """Forget the batches of the last epoch."""
        self._recorded, self._resumed = [], []

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming an epoch in its middle needs: the pairs left of each of its batches."""
        left = [batches.left() for batches in self._recorded]
        return {"batches": left + self._resumed[len(left) :]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned: the next epoch is the rest of that one."""
        self.new_epoch()
        self._resumed = list(state["batches"])


class Batches(Iterator[Batch]):
    """Shuffled pairs, a batch at a time; see `TrainingView.batches`.

    `left` holds the pairs that are left of a pass; None: it is shuffled when its first batch is taken.
    """

    def __init__(
        self,
        view: TrainingView,
        size: int,
        rng: np.random.Generator,
        pairs: IntVector,
        drop_last: bool,
        endless: bool,
        left: IntVector | None,
    ) -> None:
        self._view, self._size, self._rng, self._pairs = view, size, rng, pairs
        self._smallest = max(MIN_BATCH, size) if drop_last else MIN_BATCH
        self._endless = endless
        self._order, self._position = left, 0
        self._next: Callable[[], Batch] | None = None  # returns the batch at `position`, if it is being read

    def __next__(self) -> Batch:
        if self._order is None and not (self._endless and self._too_few(self._pairs)):
            self._shuffle()
        read = self._next or self._prefetch()
        if read is None and self._endless and not self._too_few(self._pairs):
            self._shuffle()
            read = self._prefetch()
        if read is None:
            raise StopIteration
        self._position += self._size
        batch = read()
        self._next = self._prefetch()
        return batch

    def left(self) -> IntVector | None:
        """Return the pairs left of the current pass, in order; None before the first batch."""
        return None if self._order is None else self._order[self._position :]

    def _shuffle(self) -> None:
        self._order, self._position = self._rng.permutation(self._pairs), 0

    def _prefetch(self) -> Callable[[], Batch] | None:
        """Begin to read the batch at `position`; return None at the end of the pass."""
        if self._order is None:
            return None
        chosen = self._order[self._position : self._position + self._size]
        return None if self._too_few(chosen) else self._view._prefetch(chosen)

    def _too_few(self, pairs: IntVector) -> bool:
        return len(pairs) < self._smallest
