"""`beliefs.npz`: what a method believed of every training pair at the end, in the order of the pairs.

`p_clean` and `soft_labels` are (pairs,) float32; `rematch_captions`, `rematch_images` (n,) int32 and `rematch_weights`
(n,) float32 are pairs that it believed in instead of claimed ones; `told` are the pairs that it was told are clean.
What a method does not estimate is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.archives import read_arrays
from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.files import write_atomic
from ncbench.methods import Rematches

KINDS = {
    "p_clean": np.floating,
    "soft_labels": np.floating,
    "rematch_captions": np.integer,
    "rematch_images": np.integer,
    "rematch_weights": np.floating,
    "told": np.integer,
}


@dataclass(frozen=True)
class Beliefs:
    """P(clean) and soft labels (pairs,) in [0, 1], rematches, and the pairs that the method was told are clean."""

    p_clean: NDArray[np.float64] | None
    soft_labels: NDArray[np.float64] | None
    rematches: Rematches | None
    told: IntVector


def save_beliefs(path: Path, beliefs: Beliefs) -> None:
    """Write beliefs. Raises OSError."""
    arrays: dict[str, Any] = {"told": beliefs.told.astype(np.int32)}
    for name in ("p_clean", "soft_labels"):
        values = getattr(beliefs, name)
        if values is not None:
            arrays[name] = values.astype(np.float32)
    if beliefs.rematches is not None:
        arrays["rematch_captions"] = beliefs.rematches.captions.astype(np.int32)
        arrays["rematch_images"] = beliefs.rematches.images.astype(np.int32)
        arrays["rematch_weights"] = beliefs.rematches.weights.astype(np.float32)
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def load_beliefs(path: Path) -> Beliefs:
    """Return what `save_beliefs` wrote. Raises UserError for a file that is missing, damaged, or something else."""
    try:
        arrays = read_arrays(path)
        for name, array in arrays.items():
            if array.ndim != 1 or not np.issubdtype(array.dtype, KINDS[name]):
                raise ValueError(f"{name} is no vector of its kind")
            if not np.isfinite(array).all() or (array.size and array.min() < 0):
                raise ValueError(f"{name} holds values below 0, or none at all")
        names = ("rematch_captions", "rematch_images", "rematch_weights")
        found = [arrays[name] for name in names if name in arrays]
        if found and (len(found) != len(names) or len({len(array) for array in found}) != 1):
            raise ValueError("rematches are not complete")
        return Beliefs(
            arrays["p_clean"].astype(np.float64) if "p_clean" in arrays else None,
            arrays["soft_labels"].astype(np.float64) if "soft_labels" in arrays else None,
            Rematches(found[0].astype(np.int64), found[1].astype(np.int64), found[2].astype(np.float64))
            if found
            else None,
            arrays["told"].astype(np.int64),
        )
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as beliefs ({error}); restore it.") from error
