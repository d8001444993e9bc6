"""The base class of backbones: encode images, encode captions, score pairs; and the cost of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones.measured import Measured, measured
from ncbench.backbones.precision import Precision

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset

FLOAT_BYTES = 4

Ability: TypeAlias = Literal["within", "head"]
"""What a method may need besides `score`. "within": score images against images and captions against captions. "head":
replace the last layer by a small network."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a backbone: first those given by the dataset, then those to choose (defaults as published for SGRAF).

    `lse` is the sharpness of SCAN's log-sum-exp (0: as published for Flickr30K). `head`, chosen by the method, is the
    number of hidden units of the network that scores a pair vector (0: one linear layer, or a cosine). `vector_dim`,
    given by the dataset, is the dimension of captions that are vectors (0: captions are words). `words`, given by the
    dataset, are those of the vocabulary, for networks that bring embeddings of their own; () if they are not known.
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
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, dataset: Dataset, chosen: Mapping[str, Any]) -> Sizes:
        """Return the sizes given by `dataset`, and those `chosen`."""
        vocabulary = dataset.vocabulary
        given = (dataset.image_dim, dataset.n_regions, len(vocabulary))
        return cls(*given, vector_dim=dataset.vector_dim, words=vocabulary.words, **chosen)


@dataclass(frozen=True)
class Encoded:
    """Encoded images or captions: tensors whose first dimension is the items."""

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def take(self, items: slice | Tensor) -> Encoded:
        """Return the encodings of some items."""
        return Encoded(tuple(part[items] for part in self.parts))

    @staticmethod
    def join(pieces: Sequence[Encoded]) -> Encoded:
        """Concatenate encodings; captions are zero-padded to the longest."""
        return Encoded(tuple(_join(tensors) for tensors in zip(*(piece.parts for piece in pieces), strict=True)))


def _join(tensors: Sequence[Tensor]) -> Tensor:
    if tensors[0].ndim < 3:
        return torch.cat(list(tensors))
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([functional.pad(tensor, (0, 0, 0, longest - tensor.shape[1])) for tensor in tensors])


class OnWork(Protocol):
    """A callback that a backbone calls before each pass; it may refuse the pass by raising."""

    def __call__(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Record the FLOPs, the similarities computed (`pairs`) and the captions encoded with gradients (`samples`)."""


def ignore_work(flops: int, pairs: int = 0, samples: int = 0) -> None:
    """Ignore the reported work."""


FORWARD_COST, TRAINING_COST, DOUBLE_BACKWARD_COST = 1, 3, 5
"""Cost of a pass in forward passes: alone; with its backward pass; with a backward pass through the backward pass."""


class Backbone(nn.Module, ABC):
    """A network that scores images against captions.

    The public `encode_*` and `score*` methods report their work to `on_work` before they do it: the floating-point
    operations of their matrix products at the true caption lengths, counted once for the forward pass and twice more
    for the backward pass if gradients are recorded (see also `differentiated_twice`). The owner of the budget sets
    `on_work`, which may raise. Subclasses implement the underscored methods; with the ability "within" also
    `_score_images` and `_score_captions`. They give formulas for costs by overriding `image_work`, `caption_work`,
    `pair_work`, `image_pair_work` and `caption_pair_work`; what they leave out is measured, see
    `ncbench.backbones.measured`. In a plugin, a subclass has a `name`.
    """

    name: ClassVar[str]
    """The name of a plugin, by which users choose it. Built-in backbones are named in the registry."""

    source: ClassVar[str] = ""
    """For a backbone loaded from a file: the first twelve digits of the SHA-256 of that file."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Sizes of this backbone by dataset name; they override those of the dataset."""

    IN_UNIT_INTERVAL: bool = False
    """Whether similarities are sigmoids, in (0, 1), of a raw score, rather than (pooled) cosines.

    The class attribute holds for backbones without a head of the method; with a head, it is always True.
    """

    HAS_BF16: ClassVar[bool] = False
    """Whether the expensive part of this backbone can be computed in bf16; see `autocast`."""

    TAKES_VECTORS: ClassVar[bool] = False
    """Whether captions may be vectors, (C, T) float32, each counted as one token, instead of word ids (C, L)."""

    ABILITIES: ClassVar[frozenset[Ability]] = frozenset()

    head: nn.Module | None
    """For the ability "head": the last layers, which map a pair vector to a score."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        if sizes.head and "head" not in self.ABILITIES:
            raise ValueError(f"{type(self).__name__} has no pair vectors for a head to score")
        if sizes.vector_dim and not self.TAKES_VECTORS:
            raise ValueError(f"{type(self).__name__} reads words, but the captions are vectors")
        self.sizes = sizes
        self.IN_UNIT_INTERVAL = self.IN_UNIT_INTERVAL or sizes.head > 0
        self.on_work: OnWork = ignore_work
        self.precision: Precision = "float32"
        self._training_cost = TRAINING_COST

    def use_precision(self, precision: Precision) -> None:
        """Compute matrix products in `precision` from now on; see `check_precision` for what a backbone supports."""
        self.precision = precision

    def autocast(self) -> torch.autocast:
        """Return a context that computes matrix products in bf16 if that is the precision of this backbone."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor, each: bool = False) -> Tensor:
        """Return the similarities (I, C) of images (I, R, D) and captions (C, L) of `lengths` (C,) (on the CPU).

        With `each`, the similarities (I,) of `score_each`; there are as many captions as images.
        """
        score = self.score_each if each else self.score
        return score(self.encode_images(images), self.encode_captions(tokens, lengths))

    def encode_images(self, images: Tensor) -> Encoded:
        """Encode region features (I, R, D) float32."""
        count, n_regions = images.shape[:2]
        self._report(count * self.image_work(n_regions), frozen=count * self.frozen_image_work(n_regions))
        return self._encode_images(images)

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        """Encode word ids (C, L) int64, padded on the right, or vectors; `lengths` (C,) int64 on the CPU."""
        counts = Counter(lengths.tolist())
        work, frozen = (
            sum(count * work_of(length) for length, count in counts.items())
            for work_of in (self.caption_work, self.frozen_caption_work)
        )
        self._report(work, frozen=frozen, captions=len(tokens))
        return self._encode_captions(tokens, lengths)

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """Return the similarities (I, C) float32 of encoded images and captions; larger is more similar."""
        n_regions = self.sizes.n_regions
        counts = Counter(self._lengths(captions))
        per_image = sum(count * self.pair_work(n_regions, length) for length, count in counts.items())
        self._report(len(images) * per_image, pairs=len(images) * len(captions))
        return self._score(images, captions)

    def score_images(self, images: Encoded, others: Encoded) -> Tensor:
        """Return the similarities (I, J) float32 of two sets of encoded images. Raises TypeError without "within"."""
        pairs = len(images) * len(others)
        self._report(pairs * self.image_pair_work(self.sizes.n_regions), pairs=pairs)
        return self._score_images(images, others)

    def score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        """Return the similarities (C, D) float32 of two sets of encoded captions. Raises TypeError without "within".

        They need not be symmetric: in cross attention, the words of `others` attend to those of `captions`.
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
        """Return the similarities (n,) float32 of image i with caption i.

        In evaluation mode this is the diagonal of `score`. In training mode, batch statistics are those of each pair
        alone. Raises ValueError if there are not as many captions as images.
        """
        if len(images) != len(captions):
            raise ValueError(f"expected one caption per image, found {len(images)} images and {len(captions)} captions")
        work = sum(self.pair_work(self.sizes.n_regions, length) for length in self._lengths(captions))
        self._report(work, pairs=len(captions))
        return self._score_each(images, captions)

    @contextmanager
    def differentiated_twice(self) -> Iterator[None]:
        """Make the gradients of passes inside this context differentiable, and report the cost of the second backward.

        Differentiating a gradient of the weights once more costs as much as that gradient. Disables cuDNN, whose
        recurrent layers have no second derivatives.
        """
        self._training_cost = DOUBLE_BACKWARD_COST
        try:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        finally:
            self._training_cost = TRAINING_COST

    def _report(self, flops: int, *, frozen: int = 0, pairs: int = 0, captions: int = 0) -> None:
        """Report a pass of `flops`, of which `frozen` record no gradients and have no backward pass."""
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
        cost = self._training_cost if trained else FORWARD_COST
        self.on_work(cost * (flops - frozen) + frozen, pairs, captions if trained else 0)

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image; measured unless overridden."""
        return self._measured.image(n_regions).flops

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens; measured unless overridden."""
        return self._measured.caption(length).flops

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption; measured unless overridden."""
        return self._measured.pair(n_regions, length).flops

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another. Raises TypeError without "within"."""
        if "within" not in self.ABILITIES:
            raise TypeError(f"{type(self).__name__} does not score images against images")
        return self._measured.image_pair(n_regions).flops

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another. Raises TypeError without "within"."""
        if "within" not in self.ABILITIES:
            raise TypeError(f"{type(self).__name__} does not score captions against captions")
        return self._measured.caption_pair(length, other_length).flops

    def frozen_image_work(self, n_regions: int) -> int:
        """Return the part of `image_work` in layers that are not trained, which have no backward pass.

        Measured if `image_work` is, else 0 unless overridden.
        """
        return self._measured.image(n_regions).frozen if self._is_measured("image_work") else 0

    def frozen_caption_work(self, length: int) -> int:
        """Return the part of `caption_work` in layers that are not trained: see `frozen_image_work`."""
        return self._measured.caption(length).frozen if self._is_measured("caption_work") else 0

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the estimated peak memory, in bytes, of scoring one pair without gradients."""
        return self._measured.pair(n_regions, length).peak

    def image_bytes(self, n_regions: int) -> int:
        """Return the estimated size, in bytes, of an encoded image: the vectors and products of its regions."""
        if self._is_measured("image_work"):
            return self._measured.image(n_regions).size
        return FLOAT_BYTES * n_regions * (2 * self.sizes.embed + n_regions)

    def caption_bytes(self, length: int) -> int:
        """Return the estimated peak memory, in bytes, of encoding one caption: the states of a recurrent layer."""
        if self._is_measured("caption_work"):
            return self._measured.caption(length).peak
        return FLOAT_BYTES * length * (16 * self.sizes.embed + length)

    @property
    def _measured(self) -> Measured:
        return measured(type(self), self.sizes)

    def _is_measured(self, formula: str) -> bool:
        return getattr(type(self), formula) is getattr(Backbone, formula)

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
