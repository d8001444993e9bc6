"""SCAN: words attend to regions, or regions to words; cosines with the attended contexts are pooled.

Lee et al., ECCV 2018. The context of a query q is a weighted mean c = sum_k p_k x_k of vectors that all queries share.
Its cosine needs only q . c = sum_k p_k (q . x_k), from the affinities, and |c|^2 = p^T G p with the Gram matrix G of
the x_k. So no context is ever computed, and a pair costs about half of the published products.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ncbench.backbones.attention import LEAKY_SLOPE, SHARPNESS
from ncbench.backbones.base import FLOAT_BYTES, Backbone, Encoded, Sizes
from ncbench.backbones.encoders import RegionEncoder, WordEncoder, gru_work, length_mask, linear_work
from ncbench.backbones.normalise import l2_normalise
from ncbench.backbones.pieces import group_sizes, piece_bytes

SHARPNESS_OVER_WORDS = 4.0
MIN_NORM = 1e-8  # of the denominator of a cosine


class SCAN(Backbone):
    """Base class of the four variants: encoders without dropout, and pooled cosines of queries with their contexts.

    Pooling is the mean, or log(sum(exp(a r))) / a, which is not bounded by 1 and grows with the number of queries.
    """

    LSE: ClassVar[float | None] = None
    """The published sharpness a of log-sum-exp on Flickr30K; None for mean pooling."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.image_encoder = RegionEncoder(sizes.image_dim, sizes.embed)
        self.caption_encoder = WordEncoder(sizes.vocabulary, sizes.word, sizes.embed, dropout=0.0)

    def _lengths(self, captions: Encoded) -> list[int]:
        return [int(length) for length in captions.parts[-1].tolist()]

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        lengths = captions.parts[-1]
        order = lengths.argsort(stable=True)
        regions = images.parts[0]
        word_bytes = FLOAT_BYTES * regions.shape[0] * regions.shape[1]
        sizes = group_sizes(lengths[order].tolist(), word_bytes, piece_bytes(regions.device))
        groups = (captions.take(chosen) for chosen in torch.split(order, sizes))
        columns = torch.cat([self._pool(*self._cosines(images, group)) for group in groups])
        return columns[order.argsort()].T

    @abstractmethod
    def _cosines(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        """Return the cosines (C, I, Q) of queries with their contexts, and a mask, (C, 1, Q) or (1, 1, Q) bool.

        The mask is False for padded queries. The captions have about the same length.
        """

    def _pool(self, cosines: Tensor, mask: Tensor) -> Tensor:
        """Return the similarities (C, I) from `cosines` (C, I, Q), over queries where `mask` (C or 1, 1, Q) is True."""
        if self.LSE is None:
            return (cosines * mask).sum(-1) / mask.sum(-1)
        sharpness = self.sizes.lse or self.LSE
        return (sharpness * cosines).masked_fill(~mask, float("-inf")).logsumexp(-1) / sharpness

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image: R maps of its regions."""
        return n_regions * linear_work(self.sizes.image_dim, self.sizes.embed)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens: a GRU in two directions."""
        return length * gru_work(self.sizes.word, self.sizes.embed, directions=2)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption: R L affinities."""
        return length * linear_work(self.sizes.embed, n_regions)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the estimated peak memory, in bytes, of scoring one pair without gradients: 5 R L floats."""
        return 5 * FLOAT_BYTES * n_regions * length


class TextToImage(SCAN):
    """Words attend to regions with sharpness 9 (section 3.1). Encoded images include their Gram matrix."""

    def _encode_images(self, images: Tensor) -> Encoded:
        regions = self.image_encoder(images)
        return Encoded((regions, regions @ regions.mT))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        return Encoded((self.caption_encoder(tokens, lengths), lengths))

    def _cosines(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        regions, gram = images.parts
        words, mask = _words(captions)
        affinity = _affinity(words, regions)
        # Padded words are zero and do not affect the norm over words.
        attention = (SHARPNESS * l2_normalise(functional.leaky_relu(affinity, LEAKY_SLOPE), 1)).softmax(-1)
        along = (attention * affinity).sum(-1)
        flat = attention.flatten(0, 1).transpose(0, 1)
        context_squares = (flat @ gram).mul(flat).sum(-1).T.view_as(along)
        cosines = cosine(along, words.square().sum(-1, keepdim=True), context_squares)
        return cosines.transpose(1, 2), mask[:, None]

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image: R maps of its regions, and their R^2 products."""
        return super().image_work(n_regions) + n_regions * linear_work(self.sizes.embed, n_regions)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption: R L affinities, L times p^T G."""
        return super().pair_work(n_regions, length) + length * linear_work(n_regions, n_regions)


class ImageToText(SCAN):
    """Regions attend to words with sharpness 4 (section 3.1). Encoded captions include their Gram matrix."""

    def _encode_images(self, images: Tensor) -> Encoded:
        return Encoded((self.image_encoder(images),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.caption_encoder(tokens, lengths)
        return Encoded((words, _pack(words @ words.mT), lengths))

    def _cosines(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        (regions,) = images.parts
        words, mask = _words(captions)
        gram = _unpack(captions.parts[1], words.shape[1])
        affinity = _affinity(words, regions)
        # Padded words are zero: attention to them only shortens the context, which does not change a cosine.
        attention = (SHARPNESS_OVER_WORDS * l2_normalise(functional.leaky_relu(affinity, LEAKY_SLOPE), -1)).softmax(1)
        along = (attention * affinity).sum(1)
        flat = attention.flatten(2)
        context_squares = (gram @ flat).mul(flat).sum(1).view_as(along)
        cosines = cosine(along, regions.square().sum(-1), context_squares)
        return cosines, mask.new_ones(1, 1, regions.shape[1])

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens: a GRU in two directions, L^2 products."""
        return super().caption_work(length) + length * linear_work(self.sizes.embed, length)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption: R L affinities, R times p^T G."""
        return super().pair_work(n_regions, length) + n_regions * linear_work(length, length)


class TextToImageLSE(TextToImage):
    """Words attend to regions; log-sum-exp over words."""

    LSE = 6.0


class TextToImageMean(TextToImage):
    """Words attend to regions; mean over words."""


class ImageToTextLSE(ImageToText):
    """Regions attend to words; log-sum-exp over regions."""

    LSE = 5.0
    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {"coco": {"lse": 20.0}}


class ImageToTextMean(ImageToText):
    """Regions attend to words; mean over regions."""


def _words(captions: Encoded) -> tuple[Tensor, Tensor]:
    """Return the words (C, L, E) of captions, L the longest of them, and their mask (C, L) bool."""
    lengths = captions.parts[-1]
    words = captions.parts[0][:, : int(lengths.max())]
    return words, length_mask(lengths, words)


def _affinity(words: Tensor, regions: Tensor) -> Tensor:
    """Return the dot products (C, L, I, R) of all words (C, L, E) with all regions (I, R, E)."""
    return (words.flatten(0, 1) @ regions.flatten(0, 1).T).view(*words.shape[:2], *regions.shape[:2])


def cosine(along: Tensor, query_squares: Tensor, context_squares: Tensor) -> Tensor:
    """Return q . c / max(|q| |c|, 1e-8) from q . c, |q|^2 and |c|^2, with broadcasting.

    Rounding may lose a short context in p^T G p. The denominator is therefore at least |q . c|, its lower bound, which
    keeps cosines in [-1, 1]. A clamped denominator has no gradient, rather than an infinite one.
    """
    squares = torch.maximum(query_squares * context_squares, along.square())
    return along * squares.clamp(min=MIN_NORM**2).rsqrt()


def _pack(gram: Tensor) -> Tensor:
    """Return the lower triangles of symmetric matrices (C, L, L), row by row, as (C, L (L + 1) / 2, 1).

    In this layout, the matrix of a shorter caption is a prefix of a longer one, so encodings can be padded and joined.
    """
    rows, columns = torch.tril_indices(*gram.shape[1:], device=gram.device)
    return gram[:, rows, columns, None]


def _unpack(packed: Tensor, length: int) -> Tensor:
    """Return the symmetric matrices (C, L, L) whose lower triangles `packed` (C, at least L (L + 1) / 2, 1) holds."""
    rows, columns = torch.tril_indices(length, length, device=packed.device)
    gram = packed.new_empty(len(packed), length, length)
    gram[:, rows, columns] = gram[:, columns, rows] = packed[:, : len(rows), 0]
    return gram
