"""Random choices in whole numbers, the same on every machine and with every version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ncbench.runtime.seeds import derive_seed

Item = TypeVar("Item")

_BLOCK = 256  # raw numbers fetched at a time
_CHANCE_BITS = 53


class Draws:
    """Choices drawn from the raw stream of a PCG64 generator.

    NumPy guarantees the raw stream of a bit generator, but no derived values. Everything here is computed from it with
    integers.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.PCG64(seed)
        self._block: list[int] = []

    @staticmethod
    def named(seed: int, *axes: str | int) -> Draws:
        """Return the choices for the use of randomness named by `axes`; see `ncbench.runtime.seeds`."""
        return Draws(derive_seed(seed, *axes))

    def _raw(self) -> int:
        if not self._block:
            self._block = self._generator.random_raw(_BLOCK).tolist()
            self._block.reverse()
        return self._block.pop()

    def below(self, end: int) -> int:
        """Return an integer in [0, end), for `end` up to 2**32."""
        return (self._raw() >> 32) * end >> 32

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, rate: float) -> bool:
        """Return True at `rate`."""
        return self._raw() >> 64 - _CHANCE_BITS < int(rate * (1 << _CHANCE_BITS))

    def pick(self, choices: Sequence[Item]) -> Item:
        """Return one of `choices`, each equally often."""
        return choices[self.below(len(choices))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Return a number below len(weights), as often as its weight says."""
        left = self.below(sum(weights))
        for number, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return number
        raise ValueError(f"expected a positive weight, found {list(weights)}")

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Return `count` bytes, (count,) uint8."""
        raw = np.asarray(self._generator.random_raw(-(-count // 8)), "<u8")
        return raw.view(np.uint8)[:count]
