"""The best items of each query, among those in the blocks that were seen so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import FloatArray, IntVector

BoolVector = NDArray[np.bool_]


class BestSoFar:
    """Keeps the `depth` best items of each of `queries`, best first: `items` (queries, depth) int64.

    Of equal scores, wrong items come before correct ones, as ties count against the model, and then lower numbers
    before higher ones. The result does not depend on the order of blocks, and memory not on the number of items.
    """

    def __init__(self, queries: int, depth: int) -> None:
        self.items = np.full((queries, depth), -1, np.int64)
        self._scores = np.full((queries, depth), -np.inf, np.float32)
        self._correct = np.zeros((queries, depth), np.bool_)

    def add(self, queries: IntVector, items: IntVector, owners: IntVector, scores: FloatArray) -> None:
        """Receive the finite `scores` (Q, I) float32 of items (I,) for queries (Q,), neither of which repeat.

        Item i is correct for query q if their `owners` are the same: the first Q of `owners` (Q + I,) are those of the
        queries, the others those of the items.
        """
        rows, columns = self._candidates(queries, scores)
        found = scores[rows, columns]
        correct = owners[: len(queries)][rows] == owners[len(queries) :][columns]
        lines, numbers = queries[rows], items[columns]
        # Where scores are equal in masses, nearly all are dropped here rather than sorted.
        kept = self._better(lines, numbers, found, correct)
        if kept.any():
            self._merge(lines[kept], numbers[kept], found[kept], correct[kept])

    def _candidates(self, queries: IntVector, scores: FloatArray) -> tuple[IntVector, IntVector]:
        """Return rows and columns of all scores that may be among the best: at least as high as the worst that is kept.

        A query without items has no such score. The best of the block itself limit what must be looked at.
        """
        limits = self._scores[queries, -1]
        fresh, depth = np.flatnonzero(np.isneginf(limits)), self.items.shape[1]
        if len(fresh) and scores.shape[1] >= depth:
            place = scores.shape[1] - depth
            limits[fresh] = np.partition(scores[fresh], place, axis=1)[:, place]
        wanted = scores >= limits[:, None]
        if wanted.flags.c_contiguous:
            rows, columns = np.divmod(np.flatnonzero(wanted), wanted.shape[1])
        else:  # scores of captions, which are columns of a matrix: reading it by rows is far faster
            columns, rows = np.divmod(np.flatnonzero(wanted.T), wanted.shape[0])
        return rows, columns

    def _better(self, lines: IntVector, numbers: IntVector, found: FloatArray, correct: BoolVector) -> BoolVector:
        """Return which items come before the worst that is kept for their query."""
        worst, worst_is_correct = self._scores[lines, -1], self._correct[lines, -1]
        earlier = np.where(correct == worst_is_correct, numbers < self.items[lines, -1], worst_is_correct)
        better: BoolVector = (found > worst) | ((found == worst) & earlier)
        return better

    def _merge(self, lines: IntVector, numbers: IntVector, found: FloatArray, correct: BoolVector) -> None:
        depth = self.items.shape[1]
        queries, places = np.unique(lines, return_inverse=True)
        groups = np.concatenate([np.repeat(np.arange(len(queries)), depth), places])
        scores = np.concatenate([self._scores[queries].ravel(), found])
        items = np.concatenate([self.items[queries].ravel(), numbers])
        right = np.concatenate([self._correct[queries].ravel(), correct])
        order = np.lexsort((items, right, -scores, groups))
        starts = np.searchsorted(groups[order], np.arange(len(queries)))
        best = order[starts[:, None] + np.arange(depth)]
        self.items[queries], self._scores[queries], self._correct[queries] = items[best], scores[best], right[best]
