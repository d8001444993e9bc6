"""Checking the released files of a dataset, all of them and whole, and writing a copy in half precision."""

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
from ncbench.data.precomp import PrecompSource, check_finite, open_features
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError
from ncbench.runtime.files import write_atomic, write_json

RECORD = "ncbench.json"
ORIGIN = (
    "the field gets region features and captions by the README of github.com/kuanghuei/SCAN (whose links have moved; "
    "that of woodfrog/vse_infty names a copy), CC152K by that of XLearning-SCU/2021-NeurIPS-NCR, and the "
    "vocabularies by that of penghu-cs/RCL"
)
_ROWS = 64  # of features, read at a time
_REGIONS = (36, 2048)


@dataclass(frozen=True)
class Released:
    """What is known of a dataset's released files: words, and images and captions of every file."""

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
"""Sizes as published; dev of f30k and coco repeats the row of an image once per caption, test may."""


@dataclass(frozen=True)
class Checked:
    """A file that was read whole: its shape or length in words, its hex SHA-256, and how it departs from what was
    published, or ""."""

    path: Path
    shape: str
    digest: str
    departs: str


def prepare(source: PrecompSource, root: Path, half: Path | None, say: Callable[[str], object]) -> list[Checked]:
    """Return what was found of all files of `source` below `root`; their digests go into RECORD beside them.

    Files are checked as `source.load` does it, and whole: every number must be finite. With `half`, a copy of which the
    features are float16 is written below that folder. `say` is told what is being done. Raises UserError for what is
    missing or malformed; sizes other than the published ones are none of that, but are told.
    """
    try:
        dataset = source.load(root)
    except UserError as error:
        missing = " lacks " in str(error) or "is not a folder" in str(error)
        raise UserError(f"{error}; {ORIGIN}" if missing else str(error)) from error
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
        write_json(folder / RECORD, facts)
    except OSError as error:
        say(f"{folder / RECORD}: cannot be written ({error.strerror}), so digests are not kept")
    return found


def _check(source: PrecompSource, path: Path) -> Checked:
    if path.suffix == ".json":
        return _checked(path, path.read_bytes(), f"{len(Vocabulary.read(path)):,} words", _departs_words(source, path))
    split = path.name.split("_")[0]
    images, captions = RELEASED[source.name].files[split] if source.name in RELEASED else (0, 0)
    if path.suffix != ".npy":
        count = len(read_captions(path, source.tabbed))
        return _checked(path, path.read_bytes(), f"{count:,} captions", _departs(count, captions))
    features = open_features(path)
    check_finite(path, features)
    rows = {f"{count:,}" for count in (images, captions) if count}
    shape = " x ".join(f"{n:,}" for n in features.shape)
    departs = "" if not rows or f"{len(features):,}" in rows else f"published: {' or '.join(sorted(rows))} rows"
    if images and features.shape[1:] != _REGIONS:
        departs = f"published: {_REGIONS[0]} x {_REGIONS[1]}"
    return Checked(path, f"{shape} {features.dtype}", _digest_of(path), departs)


def _checked(path: Path, content: bytes, shape: str, departs: str) -> Checked:
    return Checked(path, shape, hashlib.sha256(content).hexdigest(), departs)


def _departs_words(source: PrecompSource, path: Path) -> str:
    known = RELEASED.get(source.name)
    return "" if known is None else _departs(len(Vocabulary.read(path)), known.words)


def _departs(found: int, published: int) -> str:
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
    """Write copies of all files below `half`, the features as float16. Raises UserError for too large ones."""
    if half.resolve() in (folder.resolve(), folder.parent.resolve()):
        raise UserError(f"--half {half}: is where the released files lie; name another folder")
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
    for start in range(0, len(features), _ROWS):
        with np.errstate(over="ignore"):
            block = features[start : start + _ROWS].astype("<f2")
        if not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block).all((1, 2))))
            raise UserError(f"{path}: row {row} holds a number beyond 65,504, which half precision has not")
        yield block.tobytes()
