"""`linear`: linear maps from images to captions and back, learned on the other folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncbench.cleaning.pairs import Pairs, unit
from ncbench.cleaning.scorers.base import VectorScorer
from ncbench.data.dataset import FloatArray, IntVector

RIDGE = 0.03
"""Penalty of the maps, in units of the mean variance of a dimension."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Moments:
    """Sums over pairs: their number, vectors (D,) and (T,), and products (D, D), (T, T) and (D, T)."""

    count: float
    images: Floats
    captions: Floats
    within_images: Floats
    within_captions: Floats
    across: Floats

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(*(one - two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))

    @staticmethod
    def of(images: Floats, captions: Floats) -> _Moments:
        """Return the sums over the pairs of `images` (n, D) and `captions` (n, T)."""
        products = images.T @ images, captions.T @ captions, images.T @ captions
        return _Moments(len(images), images.sum(0), captions.sum(0), *products)


@dataclass(frozen=True)
class _Maps:
    """Means of both sides, and the maps (D, T) and (T, D)."""

    image_mean: Floats
    caption_mean: Floats
    to_captions: Floats
    to_images: Floats

    @staticmethod
    def of(sums: _Moments) -> _Maps:
        """Return the ridge regressions of both sides on each other (Hoerl and Kennard, Technometrics 1970)."""
        image_mean, caption_mean = sums.images / sums.count, sums.captions / sums.count
        across = sums.across / sums.count - np.outer(image_mean, caption_mean)
        images = sums.within_images / sums.count - np.outer(image_mean, image_mean)
        captions = sums.within_captions / sums.count - np.outer(caption_mean, caption_mean)
        return _Maps(image_mean, caption_mean, _ridge(images, across), _ridge(captions, across.T))


def _ridge(within: Floats, across: Floats) -> Floats:
    penalty = RIDGE * np.trace(within) / len(within)
    return np.asarray(np.linalg.solve(within + (penalty or 1) * np.eye(len(within)), across))


class Linear(VectorScorer):
    """The cosine of a caption with what a linear map expects from its image, plus the same the other way round.

    The two sides need not share a space. The maps for a fold are learned from the pairs of all other folds; only sums
    are kept, so the pairs are read once.
    """

    name = "linear"

    def __init__(self, pairs: Pairs) -> None:
        super().__init__(pairs)
        sums: list[_Moments | None] = [None] * pairs.n_folds
        for some, images, captions in pairs.read():
            for fold in np.unique(pairs.folds[some]):
                mine = pairs.folds[some] == fold
                found = _Moments.of(unit(images[mine]).astype(np.float64), unit(captions[mine]).astype(np.float64))
                before = sums[fold]
                sums[fold] = found if before is None else before + found
        of_folds = [each for each in sums if each is not None]
        total = of_folds[0]
        for each in of_folds[1:]:
            total = total + each
        self._maps = [_Maps.of(total - each) for each in of_folds]

    def image_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return what is expected of a caption, beside the image."""
        maps = self._maps[fold]
        images = unit(self.pairs.image_vectors(pairs)) - maps.image_mean
        return _joined(images @ maps.to_captions, images)

    def caption_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the caption, beside what is expected of an image."""
        maps = self._maps[fold]
        captions = unit(self.pairs.captions.take(pairs)) - maps.caption_mean
        return _joined(captions, captions @ maps.to_images)


def _joined(one: Floats, other: Floats) -> FloatArray:
    return np.hstack([unit(one.astype(np.float32)), unit(other.astype(np.float32))])
