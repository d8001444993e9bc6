"""What was found for every test query, best first: `retrieved.npz`.

`i2t` (images, DEPTH) int32 are captions, `t2i` (captions, DEPTH) images, by their numbers in the test split; columns
are fewer where there is less to be found. `true` (captions,) int32 are the images that the captions describe.
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

NAME = "retrieved.npz"
DEPTH = 5

_BLOCK = 1 << 22  # elements of a similarity matrix that are copied at a time


@dataclass(frozen=True)
class Retrieved:
    """The best captions of every image (images, k), the best images of every caption (captions, k), all int64.

    `true` (captions,) are the images that the captions describe.
    """

    i2t: NDArray[np.int64]
    t2i: NDArray[np.int64]
    true: IntVector

    @property
    def i2t_right(self) -> NDArray[np.bool_]:
        """Which captions found for an image are its own, (images, k)."""
        right: NDArray[np.bool_] = self.true[self.i2t] == np.arange(len(self.i2t))[:, None]
        return right

    @property
    def t2i_right(self) -> NDArray[np.bool_]:
        """Which image found for a caption is its own, (captions, k)."""
        right: NDArray[np.bool_] = self.t2i == self.true[:, None]
        return right


def retrieve(similarities: NDArray[np.floating[Any]], true: IntVector, depth: int = DEPTH) -> Retrieved:
    """Return the `depth` best of `similarities`, (images, captions) float32, for every image and every caption.

    `true` (captions,) are the images of the captions. As in ranks, what is right comes after what scores as high.
    """
    return Retrieved(
        _best(similarities, lambda rows, columns: true[columns][None, :] == rows[:, None], depth),
        _best(similarities.T, lambda rows, columns: true[rows][:, None] == columns[None, :], depth),
        true,
    )


def save_retrieved(path: Path, found: Retrieved) -> None:
    """Write what was found. Raises OSError."""
    arrays = {name: getattr(found, name).astype(np.int32) for name in ("i2t", "t2i", "true")}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def load_retrieved(path: Path) -> Retrieved:
    """Return what `save_retrieved` wrote. Raises UserError for a file that is missing, damaged, or something else."""
    try:
        arrays = read_arrays(path)
        i2t, t2i, true = (arrays[name] for name in ("i2t", "t2i", "true"))
        for array, dimensions, stop in ((i2t, 2, len(t2i)), (t2i, 2, len(i2t)), (true, 1, len(i2t))):
            if array.ndim != dimensions or not array.size or not np.issubdtype(array.dtype, np.integer):
                raise ValueError("it does not hold the tables of numbers that it should")
            if array.min() < 0 or array.max() >= stop:
                raise ValueError("it names what there is not")
        if len(true) != len(t2i):
            raise ValueError("it has not one true image per caption")
        return Retrieved(*(array.astype(np.int64) for array in (i2t, t2i, true)))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as what was retrieved ({error}); restore it.") from error


def _best(scores: NDArray[np.floating[Any]], is_right: Any, depth: int) -> NDArray[np.int64]:
    """Return the `depth` best columns of every row, best first; `is_right` tells true matches of rows and columns."""
    n_rows, n_columns = scores.shape
    depth, columns = min(depth, n_columns), np.arange(n_columns)
    found = np.empty((n_rows, depth), np.int64)
    step = max(1, _BLOCK // n_columns)
    for start in range(0, n_rows, step):
        rows = np.arange(start, min(start + step, n_rows))
        block = scores[rows].astype(np.float64)
        right = is_right(rows, columns)
        # The next smaller number of twice the precision loses against what is equal, and against nothing else. Below
        # 0 that would be a denormal, which is 0 again where these are flushed, as they are in a run.
        values = block[right]
        block[right] = np.where(values == 0, -np.finfo(np.float64).tiny, np.nextafter(values, -np.inf))
        best = np.argpartition(-block, depth - 1, axis=1)[:, :depth]
        values = np.take_along_axis(block, best, axis=1)
        order = np.lexsort((best, -values), axis=1)
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found
