"""What backbones share that make one vector of an image or a caption: any two of these are scored alike."""

from __future__ import annotations

from torch import Tensor

from ncbench.backbones.base import Backbone, Encoded


class VectorBackbone(Backbone):
    """One vector per image and per caption; a score is that of two vectors, whatever these are of."""

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another."""
        return self.pair_work(n_regions, 0)

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another."""
        return self.pair_work(0, other_length)

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        return self._score(images, others)

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        return self._score(captions, others)
