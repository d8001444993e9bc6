"""What all scorers are, and those that compare vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from ncbench.cleaning.pairs import Pairs
from ncbench.data.dataset import FloatArray, IntVector


class Scorer(Protocol):
    """Tells how well images and captions fit. Scores of different folds need not be comparable."""

    @property
    def name(self) -> str:
        """The name in options and columns."""
        ...

    def block(self, pairs: IntVector) -> FloatArray:
        """Return the scores (n, n) of the images of `pairs`, rows, with their captions; all are of one fold."""
        ...


class VectorScorer(ABC):
    """A scorer that gives every image and every caption of `pairs` a vector; the score is their product."""

    name = ""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    @abstractmethod
    def image_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the vectors (n, D) of the images of `pairs`, as the model for `fold` sees them."""

    @abstractmethod
    def caption_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the vectors (n, D) of the captions of `pairs`, as the model for `fold` sees them."""

    def block(self, pairs: IntVector) -> FloatArray:
        """Return the scores of the images of `pairs` with their captions."""
        fold = int(self.pairs.folds[pairs[0]])
        return np.asarray(self.image_vectors(pairs, fold) @ self.caption_vectors(pairs, fold).T)
