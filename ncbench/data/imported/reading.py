"""Reads a converted dataset from its folder in the local store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.imported.layout import FORMAT, MANIFEST, VOCABULARY
from ncbench.data.imported.request import SPLITS
from ncbench.data.stamps import stamp
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError


def read_texts(folder: Path) -> list[str]:
    """Return the captions of a split. Raises OSError and ValueError."""
    with (folder / "captions.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


SMALL, LARGE = "scenes", "f30k"

FEW_CAPTIONS = 20_000
"""A dataset with fewer captions for training takes the sizes and settings of SMALL, others those of LARGE."""


class StoredPictures:
    """The pictures of a dataset, decoded when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[str, NDArray[np.int64]] = {}

    def picture(self, split: str, image: int) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3) uint8, RGB. Raises UserError for one that cannot be decoded."""
        from ncbench.data.imported.pictures import decode

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
    """Return the dataset in a folder of the store; features stay on disk. Raises UserError for a damaged one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, this version of ncbench reads {FORMAT}")
        splits = {split: _split(folder / split, manifest["splits"][split]) for split in SPLITS}
        vocabulary = Vocabulary.read(folder / VOCABULARY)
        scale, batch_size, budget = _sizes(manifest["like"] or _usual(len(splits["train"].captions)))
        return Dataset(
            name=manifest["name"],
            version=str(FORMAT),
            vocabulary=vocabulary,
            splits=splits,
            digest=manifest["digest"],
            scale=scale,
            batch_size=batch_size,
            budget=budget,
            truth_known=manifest["truth_known"],
            files=stamp(sorted(path for path in folder.rglob("*") if path.is_file())),
            pictures=StoredPictures(folder) if all(manifest["splits"][s]["pictures"] for s in SPLITS) else None,
            like=manifest["like"] or _usual(len(splits["train"].captions)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _split(folder: Path, facts: dict[str, Any]) -> Split:
    from ncbench.data.imported.reading import read_texts

    features = _open(folder / "features.npy")
    if list(features.shape) != facts["shape"] or features.dtype.name != facts["dtype"]:
        raise ValueError(f"{folder.name}/features.npy is {features.dtype} {features.shape}")
    texts = read_texts(folder)
    true = np.load(folder / "true.npy", allow_pickle=False).astype(np.int64)
    if len(true) != len(texts) or (len(true) and (true.min() < 0 or true.max() >= len(features))):
        raise ValueError(f"{folder.name}/true.npy does not fit its captions and images")
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


def _usual(captions: int) -> str:
    return SMALL if captions < FEW_CAPTIONS else LARGE


def _sizes(like: str) -> tuple[dict[str, float], int, float]:
    """Return sizes of networks, batch size and budget of a dataset that is `like` another."""
    from ncbench.data import precomp
    from ncbench.data.scenes import source as scenes

    if like.startswith(SMALL):
        return dict(scenes.SCALE), scenes.BATCH_SIZE, scenes.BUDGET
    return dict(precomp.SCALE), precomp.BATCH_SIZE, precomp.F30K.published_epochs


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"the local store {folder} is damaged ({error}); delete it and it will be converted again.")
