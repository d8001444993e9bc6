"""What every backbone offers: encode images, encode captions, score all pairs; and what each of these costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones.precision import Precision

FLOAT_BYTES = 4

Ability: TypeAlias = Literal["within", "head"]
"""What a method may need beyond `score`: "within" scores images against images and captions against captions, "head"
takes a small network in the place of the last layer."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a backbone: what the dataset dictates, then what may be chosen (defaults as published for SGRAF).

    `lse` is the sharpness of SCAN's log-sum-exp; 0: as published for Flickr30K. `head`, which methods choose, is the
    number of hidden units of the network that scores a pair vector; 0: none, one linear layer or a cosine. Captions
    that are no words but vectors have `vector_dim` dimensions, which the dataset dictates too.
    """

    image_dim: int
    n_regions: int
    vocabulary: int
    embed: int = 1024
    similarity: int = 256
    word: int = 300
    dropout: float = 0.4
    lse: float = 0.0
    head: int = 0
    vector_dim: int = 0


@dataclass(frozen=True)
class Encoded:
    """Encoded images or captions: tensors whose first axis runs over the items."""

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def take(self, items: slice | Tensor) -> Encoded:
        """Return the encodings of some items."""
        return Encoded(tuple(part[items] for part in self.parts))

    @staticmethod
    def join(pieces: Sequence[Encoded]) -> Encoded:
        """Return one encoding of all items of `pieces`; shorter captions are padded with zeros to the longest."""
        return Encoded(tuple(_join(tensors) for tensors in zip(*(piece.parts for piece in pieces), strict=True)))


def _join(tensors: Sequence[Tensor]) -> Tensor:
    if tensors[0].ndim < 3:
        return torch.cat(list(tensors))
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([functional.pad(tensor, (0, 0, 0, longest - tensor.shape[1])) for tensor in tensors])


class OnWork(Protocol):
    """Who is told of a pass before it is done, and may refuse it by raising."""

    def __call__(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Take note of its FLOPs, of similarities that it computes, and of captions that it encodes with gradients."""


def ignore_work(flops: int, pairs: int = 0, samples: int = 0) -> None:
    """Count nothing."""


FORWARD, TRAINED, TWICE = 1, 3, 5
"""What a pass costs, in forward passes: alone, with its backward pass, with a backward pass through that one too."""


class Backbone(nn.Module, ABC):
    """A network that scores images against captions.

    The public `encode_*` and `score*` report their work before they do it, in floating-point operations of their matrix
    products at the true caption lengths: once for the forward pass, and twice more for the backward pass where
    gradients are recorded (see also `differentiated_twice`). Whoever owns the budget sets `on_work`, which may raise.
    Subclasses implement the underscored methods and the three cost formulas; with the ability "within" also
    `_score_images`, `_score_captions` and what these cost.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Sizes that this backbone takes on a dataset, by the dataset's name, instead of the dataset's own."""

    IN_UNIT_INTERVAL: bool = False
    """Whether similarities are sigmoids, in (0, 1), of a raw score; else they are cosines, or pooled from cosines.

    What a class says holds without a head of the method's own; with one they always are.
    """

    HAS_BF16: ClassVar[bool] = False
    """Whether the costly part of this backbone can be done in bf16, see `lowered`."""

    TAKES_VECTORS: ClassVar[bool] = False
    """Whether captions may be vectors, (C, T) float32 of one token each, in the place of word ids (C, L)."""

    ABILITIES: ClassVar[frozenset[Ability]] = frozenset()

    head: nn.Module | None
    """Of a backbone with the ability "head": the last layers, which make a score of the vector of a pair."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        if sizes.head and "head" not in self.ABILITIES:
            raise ValueError(f"{type(self).__name__} has no vector of a pair that a head could score")
        if sizes.vector_dim and not self.TAKES_VECTORS:
            raise ValueError(f"{type(self).__name__} reads words, and captions are vectors")
        self.sizes = sizes
        self.IN_UNIT_INTERVAL = self.IN_UNIT_INTERVAL or sizes.head > 0
        self.on_work: OnWork = ignore_work
        self.precision: Precision = "float32"
        self._trained_work = TRAINED

    def use_precision(self, precision: Precision) -> None:
        """Do matrix products in `precision` from now on, where this backbone can: see `check_precision`."""
        self.precision = precision

    def lowered(self) -> torch.autocast:
        """Return a context in which products are done in bf16 if that is this backbone's precision."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor, each: bool = False) -> Tensor:
        """Return the similarities (I, C) of images (I, R, D) and captions (C, L) of `lengths` (C,) (on the CPU).

        With `each`, those of `score_each`: (I,), of as many captions.
        """
        score = self.score_each if each else self.score
        return score(self.encode_images(images), self.encode_captions(tokens, lengths))

    def encode_images(self, images: Tensor) -> Encoded:
        """Encode region features (I, R, D) float32."""
        self._report(len(images) * self.image_work(images.shape[1]))
        return self._encode_images(images)

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        """Encode word ids (C, L) int64, padded on the right, or vectors; `lengths` (C,) int64 on the CPU."""
        counts = Counter(lengths.tolist())
        self._report(sum(count * self.caption_work(length) for length, count in counts.items()), captions=len(tokens))
        return self._encode_captions(tokens, lengths)

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """Return the similarities (I, C) float32 of encoded images and captions; larger is more similar."""
        n_regions = self.sizes.n_regions
        counts = Counter(self._lengths(captions))
        per_image = sum(count * self.pair_work(n_regions, length) for length, count in counts.items())
        self._report(len(images) * per_image, pairs=len(images) * len(captions))
        return self._score(images, captions)

    def score_images(self, images: Encoded, others: Encoded) -> Tensor:
        """Return the similarities (I, J) float32 of encoded images and others; TypeError without "within"."""
        pairs = len(images) * len(others)
        self._report(pairs * self.image_pair_work(self.sizes.n_regions), pairs=pairs)
        return self._score_images(images, others)

    def score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        """Return the similarities (C, D) float32 of encoded captions and others; TypeError without "within".

        They need not be symmetric: where words attend to words, it is those of `others` that do.
        """
        counts, other_counts = Counter(self._lengths(captions)), Counter(self._lengths(others))
        self._report(
            sum(
                count * other_count * self.caption_pair_work(length, other_length)
                for length, count in counts.items()
                for other_length, other_count in other_counts.items()
            ),
            pairs=len(captions) * len(others),
        )
        return self._score_captions(captions, others)

    def score_each(self, images: Encoded, captions: Encoded) -> Tensor:
        """Return the similarities (n,) float32 of image i and caption i, scored alone.

        In evaluation mode this is the diagonal of `score`; in training, where statistics of a batch matter, those of
        one image. Raises ValueError for unequal numbers.
        """
        if len(images) != len(captions):
            raise ValueError(f"each image needs one caption, got {len(images)} images and {len(captions)} captions")
        work = sum(self.pair_work(self.sizes.n_regions, length) for length in self._lengths(captions))
        self._report(work, pairs=len(captions))
        return self._score_each(images, captions)

    @contextmanager
    def differentiated_twice(self) -> Iterator[None]:
        """Make passes inside such that their gradients can be differentiated again, and report that work with theirs.

        That a gradient of the weights is differentiated with respect to the head, or to a direction, costs as much as
        the gradient. cuDNN, whose recurrent layers cannot do it, is off inside.
        """
        self._trained_work = TWICE
        try:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        finally:
            self._trained_work = TRAINED

    def _report(self, flops: int, *, pairs: int = 0, captions: int = 0) -> None:
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
        self.on_work((self._trained_work if trained else FORWARD) * flops, pairs, captions if trained else 0)

    @abstractmethod
    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image."""

    @abstractmethod
    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens."""

    @abstractmethod
    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption."""

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another; TypeError without "within"."""
        raise TypeError(f"{type(self).__name__} does not score images against images")

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another; TypeError without "within"."""
        raise TypeError(f"{type(self).__name__} does not score captions against captions")

    @abstractmethod
    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the bytes that scoring one pair without gradients holds at its peak (an estimate)."""

    def image_bytes(self, n_regions: int) -> int:
        """Return the bytes that an encoded image takes at most (an estimate): vectors and products of its regions."""
        return FLOAT_BYTES * n_regions * (2 * self.sizes.embed + n_regions)

    def caption_bytes(self, length: int) -> int:
        """Return the bytes that encoding one caption holds at its peak (an estimate): a recurrent layer's states."""
        return FLOAT_BYTES * length * (16 * self.sizes.embed + length)

    @abstractmethod
    def _encode_images(self, images: Tensor) -> Encoded: ...

    @abstractmethod
    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded: ...

    @abstractmethod
    def _score(self, images: Encoded, captions: Encoded) -> Tensor: ...

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        raise NotImplementedError

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        raise NotImplementedError

    def _score_each(self, images: Encoded, captions: Encoded) -> Tensor:
        alone = (slice(n, n + 1) for n in range(len(images)))
        return torch.cat([self._score(images.take(one), captions.take(one))[0] for one in alone])

    @abstractmethod
    def _lengths(self, captions: Encoded) -> list[int]: ...
