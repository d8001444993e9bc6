"""Two frozen networks, one for pictures and one for sentences, evaluated in whole numbers: the same bytes everywhere.

They were trained apart. `benchmarks/scenes_vectors.py` trained the first to name what is in pictures, and the second to
recognise sentences about the same thing, on pictures and sentences that no split holds, and that are not the same for
both. Neither has seen a picture with its caption, so their spaces have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.detector import SUM_LIMIT, Layer, Whole
from ncbench.data.scenes.grammar import split_words

WEIGHTS = Path(__file__).with_name("encoders.safetensors")
IMAGE_LAYERS = ("image.region1", "image.region2", "image.vector")
SENTENCE_LAYERS = ("sentence.near1", "sentence.near2", "sentence.vector")
WORDS = "sentence.words"
STEPS = 32
"""Numbers of vectors are whole multiples of 1 / STEPS."""
_BATCH_SIZE = 500


@dataclass(frozen=True)
class ImageEncoder:
    """From the regions of a picture to its vector: two layers for each region, their maxima, and a layer."""

    layers: Sequence[Layer]

    def __call__(self, regions: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return vectors (n, D), 0 to 127, of `regions` (n, regions, dim), both int8 in steps."""
        first, second, last = self.layers
        blocks = (
            last(second(first(regions[start : start + _BATCH_SIZE].astype(np.float32))).max(axis=1))
            for start in range(0, len(regions), _BATCH_SIZE)
        )
        return np.concatenate([block.astype(np.int8) for block in blocks])


@dataclass(frozen=True)
class SentenceEncoder:
    """From the words of a sentence to its vector: word vectors, two layers that see three words, maxima, and a layer.

    `embedding` (1 + words, E) has a row of zeros for unknown words and the ends of a sentence.
    """

    numbers: Mapping[str, int]
    embedding: Whole
    layers: Sequence[Layer]

    def __call__(self, sentences: Sequence[str]) -> NDArray[np.int8]:
        """Return vectors (n, D) int8, 0 to 127, of sentences."""
        blocks = (
            self._encode([split_words(text) for text in sentences[start : start + _BATCH_SIZE]])
            for start in range(0, len(sentences), _BATCH_SIZE)
        )
        return np.concatenate([block.astype(np.int8) for block in blocks])

    def _encode(self, sentences: Sequence[Sequence[str]]) -> Whole:
        first, second, last = self.layers
        ids = np.zeros((len(sentences), max(1, *map(len, sentences))), np.int64)
        for row, words in enumerate(sentences):
            ids[row, : len(words)] = [self.numbers.get(word, 0) for word in words]
        known = (ids > 0)[..., None].astype(np.float32)
        states = first(near(self.embedding[ids])) * known
        states = second(near(states)) * known
        return last(states.max(axis=1))


def near(states: Whole) -> Whole:
    """Return each word with its neighbours on both sides, (n, length, 3 E), zero beyond the ends, of (n, length, E)."""
    wide = np.pad(states, ((0, 0), (1, 1), (0, 0)))
    return np.concatenate([wide[:, place : place + states.shape[1]] for place in range(3)], axis=2)


def encoders_of(weights: Mapping[str, NDArray[np.int32]]) -> tuple[ImageEncoder, SentenceEncoder]:
    """Return the networks with `weights`: NAME.weight, .bias and .shift of each layer, word vectors, and words.

    Raises ValueError if sums could exceed what float32 holds exactly.
    """

    def layers(names: Sequence[str]) -> list[Layer]:
        found = []
        for name in names:
            weight, bias = (weights[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
            found.append(Layer(weight, bias, int(weights[f"{name}.shift"][0])))
            if found[-1].largest_sum() >= SUM_LIMIT:
                raise ValueError(f"sums of layer {name} reach {found[-1].largest_sum()}, expected below {SUM_LIMIT}")
        return found

    words = weights[WORDS].astype(np.uint8).tobytes().decode().split("\n")
    embedding = weights["sentence.embedding"].astype(np.float32)
    numbers = {word: number for number, word in enumerate(words, start=1)}
    return ImageEncoder(layers(IMAGE_LAYERS)), SentenceEncoder(numbers, embedding, layers(SENTENCE_LAYERS))


@cache
def shipped() -> tuple[ImageEncoder, SentenceEncoder]:
    """Return the networks that come with ncbench."""
    from safetensors.numpy import load_file

    return encoders_of(load_file(WEIGHTS))
