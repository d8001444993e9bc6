"""Full checks of the released files of a dataset, and copies in half precision."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncbench.data.captions_file import read_captions
from ncbench.data.dataset import FloatArray
from ncbench.data.feature_sizes import check_sizes
from ncbench.data.precomp import MissingFilesError, PrecompSource, check_rows, open_features
from ncbench.data.unknown_words import check_words
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError
from ncbench.runtime.files import write_atomic, write_json

DIGESTS_FILE = "ncbench.json"
DOWNLOAD_HINT = (
    "for downloads, see the READMEs of github.com/kuanghuei/SCAN (region features and captions; its links have moved, "
    "woodfrog/vse_infty has a copy), XLearning-SCU/2021-NeurIPS-NCR (CC152K) and penghu-cs/RCL (vocabularies)"
)
_BLOCK_ROWS = 64  # of features, read at a time
_REGION_SHAPE = (36, 2048)


@dataclass(frozen=True)
class Released:
    """The published sizes of a dataset: words, and images and captions per split."""

    words: int
    files: dict[str, tuple[int, int]]


RELEASED = {
    "f30k": Released(8_481, {"train": (29_000, 145_000), "dev": (1_014, 5_070), "test": (1_000, 5_000)}),
    "coco": Released(
        11_353,
        {"train": (113_287, 566_435), "dev": (1_000, 5_000), "test": (1_000, 5_000), "testall": (5_000, 25_000)},
    ),
    "cc152k": Released(12_072, {"train": (150_000, 150_000), "dev": (1_000, 1_000), "test": (1_000, 1_000)}),
}
"""Published sizes. In dev of f30k and coco, features repeat once per caption; in test, they may."""


@dataclass(frozen=True)
class Checked:
    """A checked file: its shape or length, its hex SHA-256, and how it deviates from the published sizes, or ""."""

    path: Path
    shape: str
    digest: str
    deviation: str


def prepare(source: PrecompSource, root: Path, half: Path | None, say: Callable[[str], object]) -> list[Checked]:
    """Check all files of `source` in `root`, and write their digests to DIGESTS_FILE next to them.

    The checks are those of `source.load`, and no number may be too large. With `half`, writes a copy with float16
    features to that folder. `say` receives progress messages. Raises UserError for missing or malformed files. Sizes
    that differ from the published ones are reported, but no error.
    """
    try:
        dataset = source.load(root)
    except MissingFilesError as error:
        raise UserError(f"{error}; {DOWNLOAD_HINT}") from error
    check_words(dataset)
    check_sizes(dataset)
    paths = [stamp.path for stamp in dataset.files]
    found = []
    for path in paths:
        say(f"reading {path}")
        found.append(_check(source, path))
    folder = next(path.parent for path in paths if path.suffix == ".npy")
    if half is not None:
        _write_half(paths, folder, half, say)
    facts = {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "files": {one.path.name: {"shape": one.shape, "sha256": one.digest} for one in found},
    }
    try:
        write_json(folder / DIGESTS_FILE, facts)
    except OSError as error:
        say(f"{folder / DIGESTS_FILE}: cannot be written ({error.strerror}); digests are not saved")
    return found


def _check(source: PrecompSource, path: Path) -> Checked:
    if path.suffix == ".json":
        return _checked(
            path, path.read_bytes(), f"{len(Vocabulary.read(path)):,} words", _deviation_of_words(source, path)
        )
    split = path.name.split("_")[0]
    images, captions = RELEASED[source.name].files[split] if source.name in RELEASED else (0, 0)
    if path.suffix != ".npy":
        count = len(read_captions(path, source.tabbed))
        return _checked(path, path.read_bytes(), f"{count:,} captions", _deviation(count, captions))
    features = open_features(path)
    check_rows(path, features)
    rows = {f"{count:,}" for count in (images, captions) if count}
    shape = " x ".join(f"{n:,}" for n in features.shape)
    deviation = "" if not rows or f"{len(features):,}" in rows else f"published: {' or '.join(sorted(rows))} rows"
    if images and features.shape[1:] != _REGION_SHAPE:
        deviation = f"published: {_REGION_SHAPE[0]} x {_REGION_SHAPE[1]}"
    return Checked(path, f"{shape} {features.dtype}", _digest_of(path), deviation)


def _checked(path: Path, content: bytes, shape: str, deviation: str) -> Checked:
    return Checked(path, shape, hashlib.sha256(content).hexdigest(), deviation)


def _deviation_of_words(source: PrecompSource, path: Path) -> str:
    known = RELEASED.get(source.name)
    return "" if known is None else _deviation(len(Vocabulary.read(path)), known.words)


def _deviation(found: int, published: int) -> str:
    return "" if not published or found == published else f"published: {published:,}"


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10
    content = hashlib.sha256()
    while part := file.read(2**20):
        content.update(part)
    return content.hexdigest()


def _write_half(paths: list[Path], folder: Path, half: Path, say: Callable[[str], object]) -> None:
    """Copy all files to `half`, with features as float16. Raises UserError for values beyond float16."""
    if half.resolve() in (folder.resolve(), folder.parent.resolve()):
        raise UserError(f"--half {half} is the folder of the released files; use another folder")
    for path in paths:
        target = half / ("vocab" if path.suffix == ".json" else folder.name) / path.name
        say(f"writing {target}")
        if path.suffix != ".npy":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            continue
        features = open_features(path)
        header = {"descr": "<f2", "fortran_order": False, "shape": features.shape}

        def write(
            file: Any, features: FloatArray = features, header: dict[str, Any] = header, path: Path = path
        ) -> None:
            np.lib.format.write_array_header_1_0(file, header)
            for block in _halved(path, features):
                file.write(block)

        write_atomic(target, write)


def _halved(path: Path, features: FloatArray) -> Iterator[bytes]:
    for start in range(0, len(features), _BLOCK_ROWS):
        with np.errstate(over="ignore"):
            block = features[start : start + _BLOCK_ROWS].astype("<f2")
        if not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block).all((1, 2))))
            raise UserError(f"{path}: row {row} contains a number beyond 65,504, the largest in half precision")
        yield block.tobytes()
