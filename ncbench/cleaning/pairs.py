"""The pairs to judge: vectors of their images and captions, folds, and random pairs to compare them with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import FloatArray, ImageFeatures, IntVector
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng

MIN_PAIRS = 40
BLOCK_PAIRS = 32
"""Pairs of a block. Their images and captions are also paired with one another, as examples of wrong pairs."""

READ_ROWS = 2048
"""Vectors that are in memory at a time."""


class Rows(Protocol):
    """Vectors (n, dim) that are read when they are needed."""

    @property
    def dim(self) -> int:
        """The dimension of a vector."""
        ...

    def __len__(self) -> int: ...

    def take(self, numbers: IntVector) -> FloatArray:
        """Return the vectors of `numbers`, (len(numbers), dim) float32."""
        ...


class ArrayRows:
    """The rows of an array (n, dim), in memory or in a file."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._rows = ImageFeatures([array[:, None]])
        self.dim = self._rows.dim

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, numbers: IntVector) -> FloatArray:
        """Return the vectors of `numbers`."""
        return self._rows.take(numbers)[:, 0]


@dataclass(frozen=True)
class Pairs:
    """Pair p is caption p with image `claimed[p]`; `images` and `captions` are vectors, not always of one space.

    `folds` (pairs,) are numbers from 0. All captions of an image are in the same fold, so that a model trained on the
    other folds has seen neither. Raises UserError for fewer than MIN_PAIRS pairs, or pairs of fewer than two images a
    fold.
    """

    images: Rows
    captions: Rows
    claimed: IntVector
    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        images = len(np.unique(self.claimed))
        if len(self) < MIN_PAIRS or images < 2 * self.n_folds:
            raise UserError(
                f"found {len(self):,} pairs with {images:,} images; expected at least {MIN_PAIRS} pairs and "
                f"{2 * self.n_folds} images to learn from"
            )

    def __len__(self) -> int:
        return len(self.claimed)

    @cached_property
    def folds(self) -> IntVector:
        """The fold of each pair."""
        used, number = np.unique(self.claimed, return_inverse=True)
        order = derive_rng(self.seed, "cleaning", "folds").permutation(len(used))
        return np.asarray(order % self.n_folds)[number]

    @cached_property
    def blocks(self) -> list[IntVector]:
        """The pairs in random blocks of about BLOCK_PAIRS, each of one fold."""
        rng = derive_rng(self.seed, "cleaning", "blocks")
        found = []
        for fold in range(self.n_folds):
            members = rng.permutation(np.flatnonzero(self.folds == fold))
            found += np.array_split(members, max(1, len(members) // BLOCK_PAIRS))
        return found

    def image_vectors(self, pairs: IntVector) -> FloatArray:
        """Return the vectors of the images of `pairs`."""
        return self.images.take(self.claimed[pairs])

    def read(self, pairs: IntVector | None = None) -> Iterator[tuple[IntVector, FloatArray, FloatArray]]:
        """Yield some pairs (default: all) with the vectors of their images and captions, READ_ROWS at a time."""
        chosen = np.arange(len(self)) if pairs is None else pairs
        for start in range(0, len(chosen), READ_ROWS):
            some = chosen[start : start + READ_ROWS]
            yield some, self.image_vectors(some), self.captions.take(some)


def unit(vectors: FloatArray) -> FloatArray:
    """Return vectors (n, D) scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


@dataclass(frozen=True)
class Standard:
    """Centres vectors, scales each dimension to variance 1, then each vector to length 1."""

    mean: FloatArray
    std: FloatArray

    @staticmethod
    def of(sample: FloatArray) -> Standard:
        """Return the scaling that a sample (n, D) needs."""
        mean = sample.mean(0, dtype=np.float64).astype(np.float32)
        std = np.sqrt(np.square(sample - mean).mean(0, dtype=np.float64))  # `std` would copy it in double precision
        return Standard(mean, np.where(std > 0, std, 1).astype(np.float32))

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Return the scaled vectors."""
        scaled = vectors - self.mean
        scaled /= self.std
        return unit(scaled)
