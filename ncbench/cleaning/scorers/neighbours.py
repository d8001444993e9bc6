"""`neighbours`: whether the neighbours of an image have captions like its own, and the other way round."""

from __future__ import annotations

import numpy as np

from ncbench.cleaning.pairs import Pairs, Standard
from ncbench.cleaning.scorers.base import VectorScorer
from ncbench.data.dataset import FloatArray, IntVector
from ncbench.runtime.seeds import derive_rng

MIN_ANCHORS, MAX_ANCHORS = 1_000, 20_000
"""Neighbours are looked for among this many random pairs, so that time grows with the pairs and not their square."""

MAX_COMPARISONS = 4 * 10**9
"""Pairs times anchors: of more than 200,000 pairs, there are fewer anchors, down to MIN_ANCHORS."""

MAX_NEIGHBOURS = 100
"""Neighbours of a pair, at most: two bytes each are kept for both sides of every pair."""

COMPARED = 256
"""Pairs that are compared with all anchors at a time."""


class Neighbours(VectorScorer):
    """The similarity of a caption to the captions of its image's neighbours, plus the same the other way round.

    The two sides need not share a space. Neighbours are the nearest of some random pairs, the anchors, as many as the
    root of their number, MAX_NEIGHBOURS at most; pairs with the same image are no neighbours of each other.
    """

    name = "neighbours"

    def __init__(self, pairs: Pairs) -> None:
        super().__init__(pairs)
        rng = derive_rng(pairs.seed, "cleaning", "anchors")
        count = max(MIN_ANCHORS, min(MAX_ANCHORS, MAX_COMPARISONS // len(pairs)))
        anchors = np.sort(rng.permutation(len(pairs))[:count])
        images, captions = pairs.image_vectors(anchors), pairs.captions.take(anchors)
        self._scales = Standard.of(images), Standard.of(captions)
        self._anchors = self._scales[0](images), self._scales[1](captions)
        self._claimed = pairs.claimed[anchors]
        self._by_claimed = np.argsort(self._claimed, kind="stable")
        self._count = min(MAX_NEIGHBOURS, max(1, round(len(anchors) ** 0.5)))
        self._nearest = [np.empty((len(pairs), self._count), np.uint16) for _ in self._anchors]
        for some, *sides in pairs.read():
            for part in (slice(start, start + COMPARED) for start in range(0, len(some), COMPARED)):
                same = self._of_same_image(pairs.claimed[some[part]])
                for side, vectors in enumerate(sides):
                    alike = self._scales[side](vectors[part]) @ self._anchors[side].T
                    alike[same] = -np.inf
                    self._nearest[side][some[part]] = np.argpartition(alike, -self._count, axis=1)[:, -self._count :]

    def _of_same_image(self, claimed: IntVector) -> tuple[IntVector, IntVector]:
        """Return the numbers in `claimed`, and of anchors, that are of one image."""
        ends = [np.searchsorted(self._claimed, claimed, side, sorter=self._by_claimed) for side in ("left", "right")]
        counts = ends[1] - ends[0]
        rows = np.repeat(np.arange(len(claimed)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self._by_claimed[np.repeat(ends[0], counts) + within]

    def image_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the mean caption of an image's neighbours, beside the image."""
        return np.hstack([self._mean_of_nearest(0, pairs), self._scales[0](self.pairs.image_vectors(pairs))])

    def caption_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the caption, beside the mean image of its neighbours."""
        return np.hstack([self._scales[1](self.pairs.captions.take(pairs)), self._mean_of_nearest(1, pairs)])

    def _mean_of_nearest(self, side: int, pairs: IntVector) -> FloatArray:
        """Return the mean vectors, on the other side, of the anchors that are nearest on `side`."""
        other = self._anchors[1 - side]
        means = [other[near].mean(0) for near in self._nearest[side][pairs]]
        return np.asarray(means, np.float32)
