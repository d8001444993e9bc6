"""`cosine`: for vectors of one space, such as those of CLIP."""

from __future__ import annotations

from ncbench.cleaning.pairs import unit
from ncbench.cleaning.scorers.base import VectorScorer
from ncbench.data.dataset import FloatArray, IntVector


class Cosine(VectorScorer):
    """The cosine of the vectors of an image and a caption, which must have the same dimension."""

    name = "cosine"

    def image_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the vectors of images, of length 1."""
        return unit(self.pairs.image_vectors(pairs))

    def caption_vectors(self, pairs: IntVector, fold: int) -> FloatArray:
        """Return the vectors of captions, of length 1."""
        return unit(self.pairs.captions.take(pairs))
