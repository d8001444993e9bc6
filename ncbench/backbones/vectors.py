"""Base class of backbones that encode an image or a caption as one vector."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ncbench.backbones.base import FLOAT_BYTES, Ability, Backbone, Encoded, Sizes
from ncbench.backbones.head import head_work, score_all, score_each


class VectorBackbone(Backbone):
    """One unit vector (E,) per image and per caption, as the only part of their encodings; E is `sizes.embed`.

    Similarities are cosines, in [-1, 1], unless a `head` scores the product of two vectors. Any two vectors are scored
    in the same way, also within a modality. Subclasses implement `_encode_images` and `_encode_captions`; those with
    the ability "head" set `head`.
    """

    ABILITIES: ClassVar[frozenset[Ability]] = frozenset({"within"})

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.head: nn.Module | None = None

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption."""
        return head_work(self.sizes.embed, self.sizes.head)

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another."""
        return self.pair_work(n_regions, 0)

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another."""
        return self.pair_work(0, other_length)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the estimated peak memory, in bytes, of scoring one pair without gradients."""
        return FLOAT_BYTES * (self.sizes.embed + 2 * self.sizes.head if self.sizes.head else 1)

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        return score_all(images.parts[0], captions.parts[0], self.head)

    def _score_each(self, images: Encoded, captions: Encoded) -> Tensor:
        return score_each(images.parts[0], captions.parts[0], self.head)

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        return self._score(images, others)

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        return self._score(captions, others)

    def _lengths(self, captions: Encoded) -> list[int]:
        return [0] * len(captions)
