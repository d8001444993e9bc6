"""Random choices that do not depend on the version of NumPy."""

from __future__ import annotations

import numpy as np

from ncbench.data.dataset import IntVector


def raw_integers(rng: np.random.Generator, n: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return `n` integers in [0, 2**64). NumPy guarantees the raw stream of a bit generator, but no derived values."""
    return np.atleast_1d(np.asarray(rng.bit_generator.random_raw(n), np.uint64))


def random_order(rng: np.random.Generator, n: int) -> IntVector:
    """Return the numbers 0 to n - 1 in random order."""
    return np.argsort(raw_integers(rng, n), kind="stable")


def count_of(ratio: float, items: int) -> int:
    """Return the number of items that a noise ratio selects."""
    return int(ratio * items)
