"""The cache of the scenes datasets: made once, and then memory-mapped.

A cache folder contains `manifest.json` and, for each split, three `datasets` folders: `features` (a row per picture),
`captions` (a row per caption) and `pictures` (the graph and a fingerprint of the pixels, a row per picture). Pictures
are drawn when asked for, and compared with their fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.cache import cache_root, make_folder
from ncbench.data.dataset import FloatArray
from ncbench.data.scenes.boxes import N_REGIONS
from ncbench.data.scenes.detector import DIM, STEPS
from ncbench.data.scenes.graph import Scene
from ncbench.data.scenes.making import jobs_of, look_at, progress, workers_for
from ncbench.data.scenes.render import Picture
from ncbench.data.scenes.sample import CAPTIONS_PER_PICTURE, Seen, Series, fingerprint
from ncbench.data.scenes.shipped import shipped
from ncbench.errors import UserError
from ncbench.runtime.files import write_json

SPLITS = ("train", "dev", "test")

_FORMAT = 2  # of the folder; increase it when the files change
_MANIFEST = "manifest.json"
_BATCH_SIZE = 100  # pictures per Arrow batch
_CAPTIONS_SECONDS, _PICTURE_SECONDS = 0.001, 0.02  # to write and to draw, per picture on a small machine
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the content of a cache folder; `sizes` are the pictures per split."""

    name: str
    version: str
    seed: int
    sizes: Mapping[str, int]

    @property
    def folder(self) -> Path:
        """The cache folder."""
        return cache_root() / f"{self.name}-{self.version}-{self.seed}"

    def series(self, split: str) -> Series:
        """Return the pictures of a split."""
        return Series(self.version, self.seed, split)

    def facts(self) -> dict[str, Any]:
        """Return the entries of the manifest, as JSON values."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "version": self.version,
            "seed": self.seed,
            "pictures": dict(self.sizes),
            "captions_per_picture": CAPTIONS_PER_PICTURE,
            "regions": [N_REGIONS, DIM],
        }


@dataclass(frozen=True)
class StoredSplit:
    """A split as read: mapped feature chunks (n, N_REGIONS, DIM) float32, captions, and the picture of each.

    `said` and `graphs` are the JSON of what captions say and of the pictures' graphs.
    """

    chunks: list[FloatArray]
    texts: list[str]
    true: NDArray[np.int64]
    said: list[str]
    graphs: list[str]
    fingerprints: NDArray[np.int64]


def ensure(recipe: Recipe, workers: int | None = None) -> Path:
    """Return the cache folder of `recipe`, generated first if missing, by `workers` processes (None: one per core).

    Raises UserError if the folder cannot be created.
    """
    folder = recipe.folder
    if not folder.exists():
        _log.info("making dataset %s in %s (once)", recipe.name, folder)
        make_folder(folder, lambda building: _build(recipe, building, workers or os.cpu_count() or 1))
    return folder


def read(recipe: Recipe, folder: Path) -> tuple[dict[str, StoredSplit], str]:
    """Return the splits in `folder` and the digest of their content. Raises UserError if they are damaged."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        facts = {key: manifest.get(key) for key in recipe.facts()}
        if facts != recipe.facts():
            raise ValueError(f"{_MANIFEST} says {facts}, expected {recipe.facts()}")
        splits = {split: _read_split(folder / split) for split in SPLITS}
        found = digest(splits)
        if found != manifest["digest"]:
            raise ValueError("the content does not match its digest")
    except Exception as error:  # Arrow and datasets raise many types of errors for damaged files
        raise _damaged(folder, error) from error
    return splits, found


def read_graphs(folder: Path, split: str) -> list[Scene]:
    """Return the scene graphs of `split`. Raises UserError if they cannot be read."""
    try:
        return [Scene.from_json(text) for text in _open(folder / split / "pictures").data.column("graph").to_pylist()]
    except Exception as error:
        raise _damaged(folder, error) from error


def read_said(folder: Path, split: str) -> list[str]:
    """Return the details of the captions of `split`, as JSON. Raises UserError if they cannot be read."""
    try:
        return list(_open(folder / split / "captions").data.column("said").to_pylist())
    except Exception as error:
        raise _damaged(folder, error) from error


def read_picture(recipe: Recipe, folder: Path, split: str, index: int) -> Picture:
    """Return picture `index` of `split`, (SIDE, SIDE, 3) uint8, drawn again.

    Raises UserError if its fingerprint cannot be read, or is another one.
    """
    try:
        kept = _open(folder / split / "pictures").data.column("fingerprint")[index].as_py()
        picture = recipe.series(split).picture(index)
        if fingerprint(picture) != kept:
            raise ValueError(f"picture {index} of {split} does not match its fingerprint")
    except Exception as error:
        raise _damaged(folder, error) from error
    return picture


def digest(splits: Mapping[str, StoredSplit]) -> str:
    """Return the hex SHA-256 of all that runs see and are judged by.

    Of each split: features, caption texts, true correspondence, what captions say, graphs, fingerprints of pictures.
    """
    content = hashlib.sha256()
    for split in SPLITS:
        stored = splits[split]
        for chunk in stored.chunks:
            content.update(np.ascontiguousarray(chunk).data)
        content.update("\n".join(stored.texts).encode())
        content.update(stored.true.astype("<i8").tobytes())
        for lines in (stored.said, stored.graphs):
            content.update("\n".join(lines).encode())
        content.update(stored.fingerprints.astype("<i8").tobytes())
    return content.hexdigest()


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"the cache folder {folder} is damaged ({error}); delete it to generate it again")


def _build(recipe: Recipe, folder: Path, workers: int) -> None:
    """Write all splits and the manifest to `folder`."""
    known = {split: shipped(recipe.series(split), recipe.sizes[split]) for split in SPLITS}
    jobs = {split: jobs_of(recipe.series(split), len(known[split]), recipe.sizes[split]) for split in SPLITS}
    count, to_draw = sum(recipe.sizes.values()), sum(recipe.sizes[split] - len(known[split]) for split in SPLITS)
    seconds = count * _CAPTIONS_SECONDS + to_draw * _PICTURE_SECONDS / workers
    with (
        workers_for(sum(map(len, jobs.values())), workers) as pool,
        progress(recipe.name, count, seconds) as advance,
    ):
        for split in SPLITS:
            advance(len(known[split]))
            seen = Seen.join([known[split], *look_at(jobs[split], pool, advance)])
            _write_split(recipe.series(split), seen, folder / split)
    splits = {split: _read_split(folder / split) for split in SPLITS}
    write_json(folder / _MANIFEST, {**recipe.facts(), "digest": digest(splits)})


def _write_split(series: Series, seen: Seen, folder: Path) -> None:
    """Write the three `datasets` folders of a split in batches."""
    import pyarrow as pa

    schemas = {
        "features": pa.schema({"regions": pa.list_(pa.float32(), N_REGIONS * DIM)}),
        "captions": pa.schema({"text": pa.string(), "image": pa.int64(), "said": pa.string()}),
        "pictures": pa.schema({"graph": pa.string(), "fingerprint": pa.int64()}),
    }
    folder.mkdir(parents=True)
    streams = {table: folder / f"{table}.arrow" for table in schemas}
    writers = {table: pa.ipc.new_stream(str(streams[table]), schema) for table, schema in schemas.items()}
    for start in range(0, len(seen), _BATCH_SIZE):
        end = min(start + _BATCH_SIZE, len(seen))
        for table, columns in _columns(series, seen, start, end).items():
            writers[table].write_batch(pa.record_batch(columns, schema=schemas[table]))
    for table, writer in writers.items():
        writer.close()
        _save(streams[table], folder / table)


def _columns(series: Series, seen: Seen, start: int, end: int) -> dict[str, list[Any]]:
    """Return the Arrow columns of pictures start to end - 1, per table."""
    import pyarrow as pa

    features = seen.features[start:end].astype(np.float32) / np.float32(STEPS)
    captions = [series.captions(number) for number in range(start, end)]
    images = np.repeat(np.arange(start, end), [len(of_one) for of_one in captions])
    written = [caption for of_one in captions for caption in of_one]
    return {
        "features": [pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), N_REGIONS * DIM)],
        "captions": [
            pa.array([caption.text for caption in written]),
            pa.array(images, pa.int64()),
            pa.array([caption.said.to_json() for caption in written]),
        ],
        "pictures": [
            pa.array([series.scene(number).to_json() for number in range(start, end)]),
            pa.array(seen.fingerprints[start:end]),
        ],
    }


def _save(stream: Path, folder: Path) -> None:
    """Convert an Arrow stream to a folder for `datasets.load_from_disk`."""
    import datasets

    with _quiet():
        datasets.Dataset.from_file(str(stream)).save_to_disk(str(folder))
    stream.unlink()


def _open(folder: Path) -> Any:
    """Return the `datasets.Dataset` in `folder`, memory-mapped."""
    import datasets

    with _quiet():
        return datasets.load_from_disk(str(folder))


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable the progress bars of `datasets` inside this context."""
    import datasets

    hidden = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()


def _read_split(folder: Path) -> StoredSplit:
    """Return a split. Raises whatever Arrow raises, and ValueError if the tables do not match."""
    regions = _open(folder / "features").data.column("regions")
    chunks = [
        chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, N_REGIONS, DIM)
        for chunk in regions.chunks
        if len(chunk)
    ]
    captions, pictures = _open(folder / "captions").data, _open(folder / "pictures").data
    true = np.asarray(captions.column("image").to_numpy(), np.int64)
    n_images = sum(map(len, chunks))
    if not np.array_equal(true, np.repeat(np.arange(n_images), CAPTIONS_PER_PICTURE)):
        raise ValueError(f"the captions in {folder.name} do not match its {n_images} pictures")
    fingerprints = np.asarray(pictures.column("fingerprint").to_numpy(), np.int64)
    if len(fingerprints) != n_images:
        raise ValueError(f"{folder.name} has {n_images} pictures with features, but {len(fingerprints)} with graphs")
    return StoredSplit(
        chunks,
        captions.column("text").to_pylist(),
        true,
        captions.column("said").to_pylist(),
        pictures.column("graph").to_pylist(),
        fingerprints,
    )
