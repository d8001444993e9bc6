"""Data sets from elsewhere as the harness sees them: converted on first use, then read from the local store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.cache import make_folder
from ncbench.data.dataset import Captions, CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.data.imported.request import SPLITS, Request, read_request
from ncbench.data.imported.stored import MANIFEST, store_root
from ncbench.data.stamps import stamp
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError

FORMAT = 1  # of a folder of the store; raise it when its files change shape
VOCABULARY = "vocabulary.json"
SMALL, LARGE = "scenes", "f30k"
FEW_CAPTIONS = 20_000
"""A data set with fewer captions for training takes the sizes and settings of SMALL, others those of LARGE."""

_log = logging.getLogger(__name__)


class Imported:
    """A data set that `request` asks for: converted into the local store first if it is not there."""

    needs_root = False

    def __init__(self, request: Request) -> None:
        self.request = request
        self.name = request.title
        self.summary = f"converted from {request.source}"

    def load(self, root: Path | None = None) -> Dataset:
        """Return the data set. Raises UserError for a source that is missing or malformed, and a damaged store."""
        return read(self.folder())

    def folder(self) -> Path:
        """Return the folder of the store that holds the data set, which is made first if need be. Raises UserError."""
        from ncbench.data.imported.convert import convert
        from ncbench.data.imported.tables import open_tables, source_files

        folder = store_root() / self.name / _key(self.request, source_files(self.request))
        if not folder.exists():
            _log.info("converting %s into %s (once)", self.request.source, folder)
            path = self.request.path
            root = path.parent if path is not None and path.is_file() else path
            tables = open_tables(self.request)
            make_folder(folder, lambda building: convert(self.request, tables, root, building))
        return folder


def source_of(text: str) -> Imported:
    """Return the data set that `hf:...` or a configuration file asks for. Raises UserError."""
    return Imported(read_request(text))


class StoredPictures:
    """The pictures of a data set, decoded when they are asked for."""

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
    """Return the data set in a folder of the store; features stay on disk. Raises UserError for a damaged one."""
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
    from ncbench.data.imported.convert import read_texts

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
    """Return sizes of networks, batch size and budget of a data set that is `like` another."""
    from ncbench.data import precomp
    from ncbench.data.scenes import source as scenes

    if like.startswith(SMALL):
        return dict(scenes.SCALE), scenes.BATCH_SIZE, scenes.BUDGET
    return dict(precomp.SCALE), precomp.BATCH_SIZE, precomp.F30K.published_epochs


def _key(request: Request, files: Sequence[Path]) -> str:
    """Return twelve hex digits of all that the content of a folder follows from; a file by its size and time."""
    of_files = [(str(one.path), one.size, one.changed) for one in stamp(files)]
    if request.vocabulary:
        of_files.append((request.vocabulary, *_size_and_time(Path(request.vocabulary))))
    facts = {"format": FORMAT, "request": asdict(request), "source": str(request.path), "files": of_files}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a vocabulary (JSON) is needed") from error
    return facts.st_size, facts.st_mtime_ns


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"the local store {folder} is damaged ({error}); delete it and it will be converted again.")
