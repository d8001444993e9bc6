"""Base class of backbones that encode an image or a caption as one vector."""

from __future__ import annotations

from torch import Tensor

from ncbench.backbones.base import Backbone, Encoded


class VectorBackbone(Backbone):
    """One vector per image and per caption. Any two vectors are scored in the same way, also within a modality."""

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
