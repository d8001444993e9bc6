"""SCAN: words attend to regions, or regions to words; cosines with what they see are pooled (Lee et al., ECCV 2018).

What a query sees, its context, is a mean c = sum_k p_k x_k of vectors that all queries share. A cosine needs only
q . c = sum_k p_k (q . x_k), of the affinities that gave p, and |c|^2 = p^T G p with the Gram matrix G of the x_k: no
context is ever computed, and pairs cost about half of the published products.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ncbench.backbones.attention import SLOPE, SMOOTH
from ncbench.backbones.base import FLOAT_BYTES, Backbone, Encoded, Sizes
from ncbench.backbones.encoders import RegionEncoder, WordEncoder, gru_work, inside, linear_work
from ncbench.backbones.normalise import l2_normalise
from ncbench.backbones.pieces import group_sizes, piece_bytes

SMOOTH_OVER_WORDS = 4.0
LEAST_NORM = 1e-8  # of a cosine's denominator


class SCAN(Backbone):
    """What the four share: encoders without dropout, cosines of queries with their contexts, and how these are pooled.

    Pooling is the mean, or log(sum(exp(a r))) / a, which is not bounded by 1 and grows with the number of queries.
    """

    LSE: ClassVar[float | None] = None
    """The published sharpness a of log-sum-exp on Flickr30K; None: the mean is taken."""

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
        """Return the cosines (C, I, Q) of queries with their contexts, and which exist, bool, (C, 1, Q) or (1, 1, Q).

        Captions are of about one length.
        """

    def _pool(self, cosines: Tensor, exist: Tensor) -> Tensor:
        """Return the similarities (C, I) that the `cosines` (C, I, Q) make, of which `exist` (C or 1, 1, Q) do."""
        if self.LSE is None:
            return (cosines * exist).sum(-1) / exist.sum(-1)
        sharpness = self.sizes.lse or self.LSE
        return (sharpness * cosines).masked_fill(~exist, float("-inf")).logsumexp(-1) / sharpness

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
        """Return the bytes that scoring one pair without gradients holds at its peak (an estimate): 5 R L floats."""
        return 5 * FLOAT_BYTES * n_regions * length


class TextToImage(SCAN):
    """Every word attends to the regions, sharpened by 9 (section 3.1); an image carries their Gram matrix."""

    def _encode_images(self, images: Tensor) -> Encoded:
        regions = self.image_encoder(images)
        return Encoded((regions, regions @ regions.mT))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        return Encoded((self.caption_encoder(tokens, lengths), lengths))

    def _cosines(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        regions, gram = images.parts
        words, exist = _words(captions)
        affinity = _affinity(words, regions)
        # Padded words are zero: the norm over words is that of the true ones.
        attention = (SMOOTH * l2_normalise(functional.leaky_relu(affinity, SLOPE), 1)).softmax(-1)
        along = (attention * affinity).sum(-1)
        flat = attention.flatten(0, 1).transpose(0, 1)
        context_squares = (flat @ gram).mul(flat).sum(-1).T.view_as(along)
        cosines = cosine(along, words.square().sum(-1, keepdim=True), context_squares)
        return cosines.transpose(1, 2), exist[:, None]

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image: R maps of its regions, and their R^2 products."""
        return super().image_work(n_regions) + n_regions * linear_work(self.sizes.embed, n_regions)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption: R L affinities, L times p^T G."""
        return super().pair_work(n_regions, length) + length * linear_work(n_regions, n_regions)


class ImageToText(SCAN):
    """Every region attends to the words, sharpened by 4 (section 3.1); a caption carries their Gram matrix."""

    def _encode_images(self, images: Tensor) -> Encoded:
        return Encoded((self.image_encoder(images),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.caption_encoder(tokens, lengths)
        return Encoded((words, _pack(words @ words.mT), lengths))

    def _cosines(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        (regions,) = images.parts
        words, exist = _words(captions)
        gram = _unpack(captions.parts[1], words.shape[1])
        affinity = _affinity(words, regions)
        # Padded words, being zero, only shorten the context by the attention that they draw: a cosine is blind to it.
        attention = (SMOOTH_OVER_WORDS * l2_normalise(functional.leaky_relu(affinity, SLOPE), -1)).softmax(1)
        along = (attention * affinity).sum(1)
        flat = attention.flatten(2)
        context_squares = (gram @ flat).mul(flat).sum(1).view_as(along)
        cosines = cosine(along, regions.square().sum(-1), context_squares)
        return cosines, exist.new_ones(1, 1, regions.shape[1])

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
    """Return the words (C, L, E) of captions up to the longest of them, and which exist (C, L) bool."""
    lengths = captions.parts[-1]
    words = captions.parts[0][:, : int(lengths.max())]
    return words, inside(lengths, words)


def _affinity(words: Tensor, regions: Tensor) -> Tensor:
    """Return the products (C, L, I, R) of all words (C, L, E) with all regions (I, R, E)."""
    return (words.flatten(0, 1) @ regions.flatten(0, 1).T).view(*words.shape[:2], *regions.shape[:2])


def cosine(along: Tensor, query_squares: Tensor, context_squares: Tensor) -> Tensor:
    """Return q . c / max(|q| |c|, 1e-8) from q . c, |q|^2 and |c|^2, of shapes that broadcast.

    Rounding may lose a short context in p^T G p; since |q| |c| is never below |q . c|, it is not let below, and cosines
    stay in [-1, 1]. Where the denominator is clamped it has no gradient, instead of an infinite one.
    """
    squares = torch.maximum(query_squares * context_squares, along.square())
    return along * squares.clamp(min=LEAST_NORM**2).rsqrt()


def _pack(gram: Tensor) -> Tensor:
    """Return the lower triangles of symmetric (C, L, L), row after row, as (C, L (L + 1) / 2, 1).

    The first rows of a longer caption have the same places, so that encodings can be padded and joined.
    """
    rows, columns = torch.tril_indices(*gram.shape[1:], device=gram.device)
    return gram[:, rows, columns, None]


def _unpack(packed: Tensor, length: int) -> Tensor:
    """Return the symmetric matrices (C, L, L) of which `packed` (C, at least L (L + 1) / 2, 1) holds the triangles."""
    rows, columns = torch.tril_indices(length, length, device=packed.device)
    gram = packed.new_empty(len(packed), length, length)
    gram[:, rows, columns] = gram[:, columns, rows] = packed[:, : len(rows), 0]
    return gram
