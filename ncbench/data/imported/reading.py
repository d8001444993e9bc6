"""Reading an imported dataset from its folder in the local store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data import precomp
from ncbench.data.dataset import DEFAULT_BACKBONE, Captions, CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.imported.layout import MANIFEST_FILE, STORE_FORMAT, VOCABULARY_FILE
from ncbench.data.imported.origins import ORIGINS_FILE, StoredOrigins
from ncbench.data.imported.split_names import SPLITS
from ncbench.data.stamps import stamp
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError

SMALL_PRESET, LARGE_PRESET = "scenes", "f30k"
"""Datasets whose sizes and settings imported datasets use by default, depending on the number of captions."""

MIN_LARGE_CAPTIONS = 20_000
"""Training captions from which LARGE_PRESET is the default."""


def read_texts(folder: Path) -> list[str]:
    """Return the captions of the split in `folder`. Raises OSError and ValueError."""
    with (folder / "captions.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class StoredPictures:
    """The pictures of a dataset, decoded on demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[str, NDArray[np.int64]] = {}

    def picture(self, split: str, image: int) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3) uint8 RGB. Raises UserError if it cannot be decoded."""
        from ncbench.data.imported.pictures import decode  # loads pyarrow, which only pictures need

        folder = self._folder / split
        try:
            if split not in self._ends:
                self._ends[split] = _open(folder / "pictures.npy")
            ends = self._ends[split]
            start = int(ends[image - 1]) if image else 0
            with (folder / "pictures.bin").open("rb") as file:
                file.seek(start)
                content = file.read(int(ends[image]) - start)
        except (OSError, ValueError) as error:
            raise _damaged(self._folder, error) from error
        return decode(content, f"{folder}, picture {image}")


def read(folder: Path) -> Dataset:
    """Return the dataset in a folder of the store; features stay on disk. Raises UserError if it is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        if manifest["format"] != STORE_FORMAT:
            raise ValueError(f"format {manifest['format']!r} is not supported (expected {STORE_FORMAT})")
        splits = {split: _split(folder / split, manifest["splits"][split]) for split in SPLITS}
        vocabulary = Vocabulary.read(folder / VOCABULARY_FILE)
        like = manifest["like"] or _default_like(len(splits["train"].captions))
        scale, batch_size, budget, backbone = _regime(like)
        return Dataset(
            name=manifest["name"],
            version=str(STORE_FORMAT),
            vocabulary=vocabulary,
            splits=splits,
            digest=manifest["digest"],
            scale=scale,
            batch_size=batch_size,
            budget=budget,
            backbone=backbone,
            truth_known=manifest["truth_known"],
            files=stamp(sorted(path for path in folder.rglob("*") if path.is_file())),
            pictures=StoredPictures(folder) if all(manifest["splits"][s]["pictures"] for s in SPLITS) else None,
            like=like,
            origins=StoredOrigins(folder) if all((folder / s / ORIGINS_FILE).is_file() for s in SPLITS) else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _split(folder: Path, facts: dict[str, Any]) -> Split:
    features = _open(folder / "features.npy")
    if list(features.shape) != facts["shape"] or features.dtype.name != facts["dtype"]:
        raise ValueError(
            f"{folder.name}/features.npy has {features.dtype} {list(features.shape)}, "
            f"expected {facts['dtype']} {facts['shape']}"
        )
    texts = read_texts(folder)
    true = np.load(folder / "true.npy", allow_pickle=False).astype(np.int64)
    if len(true) != len(texts) or (len(true) and (true.min() < 0 or true.max() >= len(features))):
        raise ValueError(f"{folder.name}/true.npy does not match the captions and images")
    captions: Captions
    if facts["vector"]:
        captions = CaptionVectors(texts, _open(folder / "vectors.npy"))
    else:
        tokens, lengths = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("tokens", "lengths"))
        captions = Captions.of_arrays(texts, tokens.astype(np.int64), lengths.astype(np.int64))
    return Split(ImageFeatures([features]), captions, true)


def _open(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _default_like(captions: int) -> str:
    return SMALL_PRESET if captions < MIN_LARGE_CAPTIONS else LARGE_PRESET


def _regime(like: str) -> tuple[dict[str, float], int, float, str]:
    """Return the sizes of networks, batch size, budget and backbone of the dataset named by `like`."""
    if like.startswith(SMALL_PRESET):
        from ncbench.data.scenes import source as scenes  # loads SciPy and Pillow

        return dict(scenes.SCALE), scenes.BATCH_SIZE, scenes.BUDGET, scenes.BACKBONE
    return dict(precomp.SCALE), precomp.BATCH_SIZE, precomp.F30K.published_epochs, DEFAULT_BACKBONE


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"the local store {folder} is damaged ({error}); delete it to convert the dataset again")
