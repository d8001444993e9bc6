"""The best matches of every test query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector

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
