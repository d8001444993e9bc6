"""One picture of a split with its graph, captions and features. Each is drawn from its own random numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncbench.data.scenes.detector import Regions, features_of
from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.grammar import Caption, write_captions
from ncbench.data.scenes.graph import Scene, sample_scene
from ncbench.data.scenes.render import Picture, render, sample_light

CAPTIONS_PER_PICTURE = 5
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True)
class Series:
    """The pictures of a split, without end; number i depends on nothing but the series and i."""

    version: str
    seed: int
    split: str

    def _draws(self, number: int, purpose: str) -> Draws:
        return Draws.named(self.seed, "scenes", self.version, self.split, number, purpose)

    def scene(self, number: int) -> Scene:
        """Return the graph of a picture."""
        return sample_scene(self._draws(number, "scene"))

    def captions(self, number: int) -> list[Caption]:
        """Return the captions of a picture."""
        return write_captions(self.scene(number), CAPTIONS_PER_PICTURE, self._draws(number, "captions"))

    def picture(self, number: int) -> Picture:
        """Return a picture, (SIDE, SIDE, 3) uint8."""
        draws = self._draws(number, "picture")
        return render(self.scene(number), sample_light(draws), draws)


@dataclass(frozen=True)
class Seen:
    """What is kept of n pictures: their features, (n, N_REGIONS, DIM) int8 in steps, and fingerprints (n,) int64."""

    features: NDArray[np.int8]
    fingerprints: NDArray[np.int64]

    @staticmethod
    def of(series: Series, start: int, end: int) -> Seen:
        """Draw pictures start to end - 1 of a series and look at them."""
        pictures = [series.picture(number) for number in range(start, end)]
        seen = [Regions.of(picture) for picture in pictures]
        regions = Regions(
            np.concatenate([one.crops for one in seen]), np.concatenate([one.descriptors for one in seen])
        )
        features = features_of(regions)
        return Seen(
            features.reshape(len(pictures), -1, features.shape[1]),
            np.array([fingerprint(picture) for picture in pictures], np.int64),
        )

    @staticmethod
    def join(parts: list[Seen]) -> Seen:
        """Concatenate what was seen."""
        return Seen(
            np.concatenate([part.features for part in parts]), np.concatenate([part.fingerprints for part in parts])
        )

    def __len__(self) -> int:
        return len(self.features)


def fingerprint(picture: Picture) -> int:
    """Return 64 bits of a hash of the pixels, as a signed integer."""
    digest = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=_FINGERPRINT_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
