"""What noise is, what a protocol is asked for and what it answers."""

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

BoolVector = NDArray[np.bool_]
Unit = Literal["captions", "images", "words", "clean", "natural"]
"""What moves: single captions, images with all their captions, or words within captions; nothing on clean and natural
pairs."""


@dataclass(frozen=True)
class Noise:
    """The claimed correspondence of a training set and where it comes from.

    `claimed` is (captions,) int64, image numbers; `splices` are the words that were put into captions from others, None
    where captions are whole; `digest` is the `noise_digest` of the two and stands for them in comparisons. `protocol`
    is the text that was asked for (`shuffle-captions`, `file:PATH`), `ratio` the noise ratio asked for; files ignore
    `seed`.
    """

    protocol: str
    version: str
    unit: Unit
    ratio: float
    seed: int
    claimed: IntVector = field(repr=False, compare=False)
    digest: str
    splices: Splices | None = field(default=None, repr=False, compare=False)

    def clean(self, true: IntVector) -> BoolVector:
        """Return which pairs are matched, (captions,) bool: whole captions whose claimed image is the `true` one."""
        found = np.asarray(self.claimed == true)
        if self.splices is not None:
            found[self.splices.captions] = False
        return found

    def mismatch(self, true: IntVector) -> float:
        """Return the realised share of mismatched captions, in [0, 1]."""
        return float(np.mean(~self.clean(true)))

    def survival(self, true: IntVector) -> float:
        """Return the share of the images with captions that keep at least one of their own, in [0, 1]."""
        return len(np.unique(true[self.clean(true)])) / len(np.unique(true))

    def seen(self, captions: Captions, vocabulary: Vocabulary) -> Captions:
        """Return the captions of the training split as methods see them. Raises ValueError for splices of others."""
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
    """What a protocol is asked for: noise of `ratio` on `true`, (captions,) int64 numbers of `n_images` images.

    `rng` belongs to this protocol and seed alone; `path` is the index file of protocols that read one. Those that look
    at what is in images and captions find it in `images` and `captions`.
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
        """The training captions, as they truly are."""
        return self.split.captions


class Drawn(NamedTuple):
    """What a protocol answers: `claimed`, (captions,) int64, its unit, and splices where it changes words."""

    claimed: IntVector
    unit: Unit
    splices: Splices | None = None


@dataclass(frozen=True)
class NoiseProtocol:
    """A named, versioned recipe; `unit` is None where the index file says it, `draw` does the work.

    `draw` returns a `Drawn`, or its first two values. `nested` promises that, of one seed, the items selected at a
    lower ratio are among those at a higher one. `exact` promises that exactly int(ratio * items) are mismatched, where
    shuffles leave those in peace that happen to land on their own place. One that does not `makes_noise` takes ratio 0
    only.
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
        """How the protocol is written by a user."""
        return f"{self.name}:PATH" if self.reads_file else self.name


def noise_digest(claimed: IntVector, splices: Splices | None = None) -> str:
    """Return the hex SHA-256 of a correspondence vector as little-endian int64 bytes, followed by those of splices."""
    found = hashlib.sha256(np.ascontiguousarray(claimed, dtype="<i8").tobytes())
    if splices is not None:
        found.update(np.ascontiguousarray(splices.rows, dtype="<i8").tobytes())
    return found.hexdigest()


def within(values: NDArray[np.integer[Any]], stop: int) -> bool:
    """Return whether all values lie in [0, stop)."""
    return len(values) == 0 or bool(values.min() >= 0 and values.max() < stop)
