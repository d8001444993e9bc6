"""Pairs that a method is told are clean: so many of the truly clean training pairs, at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng


def clean_pairs(method: str, needed: int, clean: NDArray[np.bool_] | None) -> IntVector:
    """Return the numbers of the pairs that are `clean`, (pairs,) bool, ascending, for a method that needs some.

    Raises UserError where there are fewer than `needed`, or nobody knows which they are: `clean` is None.
    """
    must = f"{method} must be told of {needed} clean pairs"
    if clean is None:
        raise UserError(f"{must}, and nobody knows which are clean in this dataset; take a method that needs none.")
    found = np.flatnonzero(clean)
    if len(found) < needed:
        raise UserError(f"{must}, and of {len(clean)} pairs {len(found)} are clean; lower --noise, or what it needs.")
    return found


def draw_clean_pairs(method: str, needed: int, clean: NDArray[np.bool_] | None, seed: int) -> IntVector:
    """Return the numbers of `needed` of the clean pairs, drawn at random, ascending. Raises as `clean_pairs`.

    They follow from the seed of the run alone, whatever the method; of a larger number, the smaller ones are a part.
    """
    drawn = derive_rng(seed, "told clean pairs").permutation(clean_pairs(method, needed, clean))
    return np.sort(drawn[:needed])
