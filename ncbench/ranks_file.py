"""`ranks.npz`: the test rank of every query, from which every score of a record can be recomputed.

`i2t` and `t2i` hold the ranks among the whole split. Where scores are averages over folds, `i2t_folded` and
`t2i_folded` hold those within the folds, one fold after the other, and `i2t_per_fold` and `t2i_per_fold` how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncbench.archives import read_arrays
from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.evaluation import Ranks
from ncbench.files import write_atomic

NAME = "ranks.npz"
SIDES = ("i2t", "t2i")


def save_ranks(path: Path, whole: Ranks, folded: Ranks | None = None) -> None:
    """Write the ranks among the whole test split, and within its folds if it has any. Raises OSError."""
    arrays = {side: getattr(whole, side)[0] for side in SIDES}
    if folded is not None:
        for side in SIDES:
            parts = getattr(folded, side)
            arrays[f"{side}_folded"] = np.concatenate(parts)
            arrays[f"{side}_per_fold"] = np.array([len(part) for part in parts])
    write_atomic(path, lambda file: np.savez_compressed(file, **{k: v.astype(np.int32) for k, v in arrays.items()}))


def load_ranks(path: Path) -> dict[str, Ranks]:
    """Return ranks by what records call their scores: `test`, and `test_unfolded` where `test` is one of folds.

    Raises UserError for a file that is missing, damaged, or holds something else.
    """
    try:
        arrays = read_arrays(path)
        whole = Ranks(*((_vector(arrays, side),) for side in SIDES))
        if "i2t_folded" not in arrays:
            return {"test": whole}
        return {"test": Ranks(*(_split(arrays, side) for side in SIDES)), "test_unfolded": whole}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as ranks ({error}); restore it.") from error


def _vector(arrays: Mapping[str, NDArray[np.generic]], name: str) -> IntVector:
    found = arrays[name]
    if found.ndim != 1 or len(found) == 0 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{name} is no vector of integers")
    vector: IntVector = found.astype(np.int64)
    if vector.min() < 0:
        raise ValueError(f"{name} holds {vector.min()}")
    return vector


def _split(arrays: Mapping[str, NDArray[np.generic]], side: str) -> tuple[IntVector, ...]:
    ranks, counts = _vector(arrays, f"{side}_folded"), _vector(arrays, f"{side}_per_fold")
    if counts.min() == 0 or counts.sum() != len(ranks):
        raise ValueError(f"{side}_per_fold does not fit {side}_folded")
    return tuple(np.split(ranks, np.cumsum(counts)[:-1]))
