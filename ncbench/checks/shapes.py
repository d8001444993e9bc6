"""A tiny dataset that trains in seconds: images show a few shapes, and captions name them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, Dataset, ImageFeatures, IntVector, Split
from ncbench.data.vocabulary import SPECIAL, Vocabulary

SHAPES_PER_IMAGE = 3
FEATURE_NOISE = 0.05  # standard deviation
SHORT_CAPTION_INTERVAL = 5  # every fifth caption omits a shape, so that lengths differ

SIZES: Mapping[str, int] = {"train": 128, "dev": 32, "test": 64}
SCALE: Mapping[str, int | float] = {"embed": 16, "similarity": 8, "word": 8, "dropout": 0.1}


@dataclass(frozen=True)
class SharedShapes:
    """Closeness: the share of the shapes named in a caption that an image shows."""

    shapes: Mapping[str, IntVector]
    true: Mapping[str, IntVector]

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
        """Return the closeness of captions[i] and images[i], (n,) float64 in [0, 1]."""
        named = self.shapes[split][self.true[split][captions]]
        shown = self.shapes[split][images]
        return np.asarray((named[:, :, None] == shown[:, None, :]).any(2).mean(1))


@dataclass(frozen=True)
class Shapes:
    """The parameters of a shapes dataset; `kinds` of shapes is also the feature dimension D.

    No two images show the same shapes. With `regions=1`, the feature of an image is the mean over its shapes; otherwise
    it has one region per shape.
    """

    name: str = "shapes"
    images: Mapping[str, int] = field(default_factory=lambda: dict(SIZES))
    captions_each: int = 2
    kinds: int = 11
    regions: int = SHAPES_PER_IMAGE
    seed: int = 5
    scale: Mapping[str, int | float] = field(default_factory=lambda: dict(SCALE))
    batch_size: int = 32
    budget: float = 4.0

    summary = "shapes and their names, used by ncbench methods check"
    needs_root = False

    def load(self, root: object = None) -> Dataset:
        """Return the dataset. Raises ValueError if `kinds` is too small for that many distinct images."""
        rng = np.random.default_rng(self.seed)
        shown = rng.permutation(np.array(list(combinations_with_replacement(range(self.kinds), SHAPES_PER_IMAGE))))
        if sum(self.images.values()) > len(shown):
            raise ValueError(
                f"{self.kinds} kinds of shapes give {len(shown)} distinct images, need {sum(self.images.values())}"
            )
        words = tuple(f"shape{number}" for number in range(self.kinds))
        vocabulary = Vocabulary((*SPECIAL, *words))
        splits: dict[str, Split] = {}
        shapes: dict[str, IntVector] = {}
        for name, count in self.images.items():
            shapes[name], shown = shown[:count], shown[count:]
            splits[name] = self._split(shapes[name], words, vocabulary, rng)
        return Dataset(
            name=self.name,
            version="1",
            vocabulary=vocabulary,
            splits=splits,
            digest=hashlib.sha256(repr(self).encode()).hexdigest(),
            scale=self.scale,
            batch_size=self.batch_size,
            budget=self.budget,
            semantics=SharedShapes(shapes, {name: split.true for name, split in splits.items()}),
        )

    def _split(
        self, shapes: IntVector, words: Sequence[str], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Split:
        features = np.eye(self.kinds, dtype=np.float32)[shapes]
        features += rng.normal(0, FEATURE_NOISE, features.shape).astype(np.float32)
        if self.regions == 1:
            features = features.mean(1, keepdims=True)
        true = np.repeat(np.arange(len(shapes)), self.captions_each)
        named = [
            rng.permutation(shapes[image])[number % SHORT_CAPTION_INTERVAL == 0 :] for number, image in enumerate(true)
        ]
        texts = [[words[shape] for shape in caption] for caption in named]
        captions = Captions([" ".join(text) for text in texts], [vocabulary.encode(text) for text in texts])
        return Split(ImageFeatures([features]), captions, true)
