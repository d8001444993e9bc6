"""Noise, noise protocols, and what a protocol receives and returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, ImageFeatures, IntVector, Split
from ncbench.data.splices import Splices
from ncbench.data.vocabulary import Vocabulary
from ncbench.runtime.guard import refuse_if_guarded

BoolVector = NDArray[np.bool_]
Unit = Literal["captions", "images", "words", "pairs", "clean", "natural"]
"""What moves: single captions, images with all their captions, words within captions, or for each pair its image or its
words; nothing on clean and natural pairs."""

Change = Literal["", "image", "shortened", "words", "unknown"]
"""What noise did to a pair: nothing; another image is claimed; words were left out; words of another caption or unknown
words replace its own."""


@dataclass(frozen=True)
class Noise:
    """The claimed correspondence of a training set, and its origin.

    `claimed` (captions,) int64 are image numbers. `splices` are the words replaced by those of other captions, or None.
    `digest` is the `noise_digest` of both and represents them in comparisons. `protocol` (`shuffle-captions`,
    `file:PATH`) and `ratio` are as requested; index files ignore `seed`.
    """

    protocol: str
    version: str
    unit: Unit
    ratio: float
    seed: int
    claimed: IntVector = field(repr=False, compare=False)
    digest: str
    splices: Splices | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        refuse_if_guarded("draw noise")

    def clean(self, true: IntVector) -> BoolVector:
        """Return which pairs are matched, (captions,) bool: the claimed image is true, the caption not spliced."""
        found = np.asarray(self.claimed == true)
        if self.splices is not None:
            found[self.splices.captions] = False
        return found

    def changes(self, true: IntVector) -> NDArray[np.str_]:
        """Return what happened to each pair, (captions,) of `Change`: "" for the pairs that are `clean`."""
        found = np.zeros(len(true), "U9")
        if self.splices is not None:
            found[self.splices.captions] = np.select(
                [self.splices.unknown, self.splices.own], ["unknown", "shortened"], "words"
            )
        found[self.claimed != true] = "image"
        return found

    def mismatch(self, true: IntVector) -> float:
        """Return the actual share of mismatched captions, in [0, 1]."""
        return float(np.mean(~self.clean(true)))

    def survival(self, true: IntVector) -> float:
        """Return the share of the images with captions that keep at least one of them, in [0, 1]."""
        return len(np.unique(true[self.clean(true)])) / len(np.unique(true))

    def seen(self, captions: Captions, vocabulary: Vocabulary) -> Captions:
        """Return the training captions as methods see them. Raises ValueError if the splices do not fit `captions`."""
        return captions if self.splices is None else captions.spliced(self.splices, vocabulary.words)

    @property
    def label(self) -> str:
        """The protocol as records name it: an index file by its name and content, wherever it is stored."""
        name, colon, path = self.protocol.partition(":")
        return f"{name}:{Path(path).name}@{self.digest[:8]}" if colon else self.protocol

    def record(self) -> dict[str, str | float | int]:
        """Return all but the arrays, ready for JSON."""
        return {
            "protocol": self.protocol,
            "version": self.version,
            "unit": self.unit,
            "ratio": self.ratio,
            "seed": self.seed,
            "digest": self.digest,
        }


@dataclass(frozen=True)
class NoiseRequest:
    """A request for noise at `ratio` on the correspondence `true`, (captions,) int64 numbers of `n_images` images.

    `rng` is used by this protocol and seed only; `path` is the index file of protocols that read one. `images` and
    `captions` give the content of the training split to protocols that need it.
    """

    ratio: float
    true: IntVector
    n_images: int
    rng: np.random.Generator
    path: Path
    split: Split

    @property
    def images(self) -> ImageFeatures:
        """The features of the training images."""
        return self.split.images

    @property
    def captions(self) -> Captions:
        """The original training captions."""
        return self.split.captions


class Drawn(NamedTuple):
    """What a protocol returns: `claimed` (captions,) int64, its unit, and splices if it changes words."""

    claimed: IntVector
    unit: Unit
    splices: Splices | None = None


@dataclass(frozen=True)
class NoiseProtocol:
    """A named, versioned recipe for noise.

    `draw` returns a `Drawn`, or its first two values. `unit` is None for index files, whose content decides. `nested`:
    for the same seed, the items selected at a lower ratio are among those selected at a higher one. `exact`: exactly
    int(ratio * items) items are mismatched; a plain shuffle may leave some in place. If `makes_noise` is False, the
    ratio must be 0.
    """

    name: str
    version: str
    unit: Unit | None
    summary: str
    draw: Callable[[NoiseRequest], Drawn | tuple[Any, ...]] = field(repr=False)
    reads_file: bool = False
    nested: bool = False
    exact: bool = False
    makes_noise: bool = True

    @property
    def usage(self) -> str:
        """How a user writes the protocol."""
        return f"{self.name}:PATH" if self.reads_file else self.name


def noise_digest(claimed: IntVector, splices: Splices | None = None) -> str:
    """Return the hex SHA-256 of a correspondence vector as little-endian int64 bytes, followed by those of splices."""
    found = hashlib.sha256(np.ascontiguousarray(claimed, dtype="<i8").tobytes())
    if splices is not None:
        found.update(np.ascontiguousarray(splices.rows, dtype="<i8").tobytes())
    return found.hexdigest()


def within(values: NDArray[np.integer[Any]], stop: int) -> bool:
    """Return whether all values are in [0, stop)."""
    return len(values) == 0 or bool(values.min() >= 0 and values.max() < stop)
