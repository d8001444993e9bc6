"""Clean pairs that a method is given: a random sample of the truly clean training pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng


def clean_pairs(method: str, needed: int, clean: NDArray[np.bool_] | None) -> IntVector:
    """Return the numbers of the `clean` pairs, (pairs,) bool, ascending, for a method that needs some.

    Raises UserError if there are fewer than `needed`, or if the dataset has no ground truth (`clean` is None).
    """
    needs = f"{method} needs {needed} clean pairs"
    if clean is None:
        raise UserError(f"{needs}, but this dataset has no ground truth. Choose another method.")
    found = np.flatnonzero(clean)
    if len(found) < needed:
        raise UserError(f"{needs}, but only {len(found)} of {len(clean)} pairs are clean. Lower --noise.")
    return found


def draw_clean_pairs(method: str, needed: int, clean: NDArray[np.bool_] | None, seed: int) -> IntVector:
    """Return the numbers of `needed` random clean pairs, ascending. Raises like `clean_pairs`.

    The draw depends on the seed of the run only, not on the method. A smaller sample is part of a larger one.
    """
    drawn = derive_rng(seed, "told clean pairs").permutation(clean_pairs(method, needed, clean))
    return np.sort(drawn[:needed])
