"""The source of the dataset `scenes-vectors`, and its cache.

The cache folder has `manifest.json` and `vectors.npz`: for each split, vectors of the pictures and of the captions in
whole numbers. Texts, graphs and pictures are those of `scenes`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.cache import cache_root, make_folder
from ncbench.data.dataset import CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.scene_vectors.encoders import STEPS, WEIGHTS, shipped
from ncbench.data.scenes.detector import STEPS as REGION_STEPS
from ncbench.data.scenes.making import progress
from ncbench.data.scenes.source import SCENES, Scenes
from ncbench.data.stamps import stamp
from ncbench.errors import UserError
from ncbench.runtime.files import write_json

VERSION = "1"
SCALE = {"embed": 128}
BATCH_SIZE = 128
BUDGET = 2.0
BACKBONE = "vse-mlp"
_MANIFEST, _VECTORS = "manifest.json", "vectors.npz"
_SECONDS_PER_PICTURE = 0.002  # to encode it with its captions

Vectors = Mapping[str, NDArray[np.int8]]


class ScenesVectors:
    """A dataset of procedural pictures with captions, as vectors of two frozen networks that were trained apart."""

    needs_root = False

    def __init__(self, name: str, scenes: Scenes) -> None:
        self.name = name
        self.summary = f"{scenes.name} as vectors of two frozen networks, for work in seconds; made on first use"
        self._scenes = scenes

    def load(self, root: Path | None = None, workers: int | None = None) -> Dataset:
        """Return the dataset, made on first use (`workers` processes make the scenes).

        `root` is not used. Raises UserError if a cache is damaged or cannot be written.
        """
        scenes = self._scenes.load(None, workers)
        folder = cache_root() / f"{self.name}-{VERSION}-{scenes.digest[:12]}"
        if not folder.exists():
            make_folder(folder, lambda building: self._build(scenes, building))
        vectors, digest = self._read(scenes, folder)
        splits = {
            name: Split(
                images=ImageFeatures([_in_floats(vectors[f"{name}.images"])[:, None]]),
                captions=CaptionVectors(split.captions.texts, _in_floats(vectors[f"{name}.captions"])),
                true=split.true,
            )
            for name, split in scenes.splits.items()
        }
        return replace(
            scenes,
            name=self.name,
            version=VERSION,
            splits=splits,
            digest=digest,
            scale=SCALE,
            batch_size=BATCH_SIZE,
            budget=BUDGET,
            backbone=BACKBONE,
            like=scenes.presets,
            files=(*scenes.files, *stamp([folder / _MANIFEST, folder / _VECTORS])),
        )

    def _build(self, scenes: Dataset, folder: Path) -> None:
        """Encode all pictures and captions, and write the vectors with a manifest to `folder`."""
        encode_images, encode_sentences = shipped()
        vectors: dict[str, Any] = {}
        count = sum(len(split.images) for split in scenes.splits.values())
        with progress(self.name, count, count * _SECONDS_PER_PICTURE) as advance:
            for name, split in scenes.splits.items():
                regions = split.images.take(np.arange(len(split.images))) * np.float32(REGION_STEPS)
                vectors[f"{name}.images"] = encode_images(regions.astype(np.int8))
                vectors[f"{name}.captions"] = encode_sentences(split.captions.texts)
                advance(len(split.images))
        np.savez(folder / _VECTORS, **vectors)
        write_json(folder / _MANIFEST, {**_facts(scenes), "digest": _digest(vectors, scenes)})

    def _read(self, scenes: Dataset, folder: Path) -> tuple[Vectors, str]:
        """Return the vectors in `folder` and the digest of the dataset. Raises UserError if they are damaged."""
        try:
            manifest = json.loads((folder / _MANIFEST).read_text())
            facts = {key: manifest.get(key) for key in _facts(scenes)}
            if facts != _facts(scenes):
                raise ValueError(f"{_MANIFEST} says {facts}, expected {_facts(scenes)}")
            with np.load(folder / _VECTORS, allow_pickle=False) as file:
                vectors = {name: file[name] for name in _names(scenes)}
            digest = _digest(vectors, scenes)
            if digest != manifest["digest"]:
                raise ValueError("the content does not match its digest")
        except Exception as error:  # zip files raise many types of errors
            raise UserError(
                f"the cache folder {folder} is damaged ({error}); delete it to generate it again"
            ) from error
        return vectors, digest


def _names(scenes: Dataset) -> list[str]:
    return [f"{split}.{side}" for split in scenes.splits for side in ("images", "captions")]


def _facts(scenes: Dataset) -> dict[str, str]:
    """Return what vectors are made from."""
    return {"scenes": scenes.digest, "encoders": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}


def _digest(vectors: Vectors, scenes: Dataset) -> str:
    """Return the hex SHA-256 of all vectors and of the scenes, which runs are judged by."""
    content = hashlib.sha256(scenes.digest.encode())
    for name in _names(scenes):
        content.update(f"{name} {vectors[name].shape} {vectors[name].dtype}".encode())
        content.update(np.ascontiguousarray(vectors[name]).data)
    return content.hexdigest()


def _in_floats(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return vectors in units, (n, D) float32."""
    return vectors.astype(np.float32) / np.float32(STEPS)


SCENES_VECTORS = ScenesVectors("scenes-vectors", SCENES)
