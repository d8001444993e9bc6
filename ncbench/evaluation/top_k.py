"""The best matches of each query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector

DEFAULT_DEPTH = 5

_BLOCK_ELEMENTS = 1 << 22  # of the similarity matrix, copied at a time


@dataclass(frozen=True)
class Retrieved:
    """The best captions of each image, `i2t` (images, k), and the best images of each caption, `t2i` (captions, k).

    `true` (captions,) is the image that each caption describes. All are int64.
    """

    i2t: NDArray[np.int64]
    t2i: NDArray[np.int64]
    true: IntVector

    @property
    def i2t_correct(self) -> NDArray[np.bool_]:
        """Which of the captions found for an image describe it, (images, k)."""
        correct: NDArray[np.bool_] = self.true[self.i2t] == np.arange(len(self.i2t))[:, None]
        return correct

    @property
    def t2i_correct(self) -> NDArray[np.bool_]:
        """Which of the images found for a caption are described by it, (captions, k)."""
        correct: NDArray[np.bool_] = self.t2i == self.true[:, None]
        return correct


def retrieve(similarities: NDArray[np.floating[Any]], true: IntVector, depth: int = DEFAULT_DEPTH) -> Retrieved:
    """Return the `depth` best matches of each image and each caption by `similarities`, (images, captions) float32.

    `true` (captions,) is the image of each caption. As in ranks, ties count against the model: correct matches come
    after others of the same score.
    """
    return Retrieved(
        _best(similarities, lambda rows, columns: true[columns][None, :] == rows[:, None], depth),
        _best(similarities.T, lambda rows, columns: true[rows][:, None] == columns[None, :], depth),
        true,
    )


def _best(scores: NDArray[np.floating[Any]], is_correct: Any, depth: int) -> NDArray[np.int64]:
    """Return the `depth` best columns of each row, best first; `is_correct(rows, columns)` marks the true matches."""
    n_rows, n_columns = scores.shape
    depth, columns = min(depth, n_columns), np.arange(n_columns)
    found = np.empty((n_rows, depth), np.int64)
    step = max(1, _BLOCK_ELEMENTS // n_columns)
    for start in range(0, n_rows, step):
        rows = np.arange(start, min(start + step, n_rows))
        block = scores[rows].astype(np.float64)
        correct = is_correct(rows, columns)
        # The next smaller float64 sorts behind equal float32 scores and before all others. Next to 0 it would be a
        # denormal, which a run flushes to 0; hence `tiny`.
        values = block[correct]
        block[correct] = np.where(values == 0, -np.finfo(np.float64).tiny, np.nextafter(values, -np.inf))
        best = np.argpartition(-block, depth - 1, axis=1)[:, :depth]
        values = np.take_along_axis(block, best, axis=1)
        order = np.lexsort((best, -values), axis=1)
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found
