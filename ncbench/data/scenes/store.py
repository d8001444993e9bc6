"""The cache of the scenes datasets: generated once, in parallel, and then memory-mapped.

A cache folder contains `manifest.json` and, for each split, three `datasets` folders: `features` (a row per picture),
`captions` (a row per caption) and `pictures` (PNG bytes and the graph, a row per picture).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncbench.data.cache import cache_root, make_folder
from ncbench.data.dataset import FloatArray
from ncbench.data.scenes.boxes import N_REGIONS
from ncbench.data.scenes.descriptor import DIM, region_features
from ncbench.data.scenes.grammar import Caption, write_captions
from ncbench.data.scenes.graph import Scene, sample_scene
from ncbench.data.scenes.render import Picture, render, sample_light
from ncbench.errors import UserError
from ncbench.runtime.files import write_json
from ncbench.runtime.seeds import derive_rng

SPLITS = ("train", "dev", "test")
CAPTIONS_PER_PICTURE = 5

_FORMAT = 1  # of the folder; increase it when the files change
_MANIFEST = "manifest.json"
_CHUNK_SIZE = 100  # pictures per unit of work and per Arrow batch
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
class Sample:
    """One picture with its scene, features and captions."""

    scene: Scene
    picture: Picture
    features: FloatArray  # (N_REGIONS, DIM)
    captions: list[Caption]


@dataclass(frozen=True)
class StoredSplit:
    """A split as read: mapped feature chunks (n, N_REGIONS, DIM) float32, captions, and the picture of each."""

    chunks: list[FloatArray]
    texts: list[str]
    true: NDArray[np.int64]


def make_sample(version: str, seed: int, split: str, index: int) -> Sample:
    """Return picture `index` of `split`. Each has its own random generator, so they can be made in any order."""
    rng = derive_rng(seed, "scenes", version, split, index)
    scene = sample_scene(rng)
    picture = render(scene, sample_light(rng), rng)
    return Sample(scene, picture, region_features(picture), write_captions(scene, CAPTIONS_PER_PICTURE, rng))


def ensure(recipe: Recipe, workers: int | None = None) -> Path:
    """Return the cache folder of `recipe`, generated first if missing, by `workers` processes (None: one per core).

    Raises UserError if the folder cannot be created.
    """
    folder = recipe.folder
    if not folder.exists():
        _log.info("generating dataset %s in %s (once)", recipe.name, folder)
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


def read_picture(folder: Path, split: str, index: int) -> Picture:
    """Return picture `index` of `split`, (SIDE, SIDE, 3) uint8. Raises UserError if it cannot be read."""
    try:
        png = _open(folder / split / "pictures").data.column("png")[index].as_py()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    except Exception as error:
        raise _damaged(folder, error) from error


def digest(splits: Mapping[str, StoredSplit]) -> str:
    """Return the hex SHA-256 of features, captions and true correspondence of all splits."""
    content = hashlib.sha256()
    for split in SPLITS:
        stored = splits[split]
        for chunk in stored.chunks:
            content.update(np.ascontiguousarray(chunk).data)
        content.update("\n".join(stored.texts).encode())
        content.update(stored.true.astype("<i8").tobytes())
    return content.hexdigest()


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"the cache folder {folder} is damaged ({error}); delete it to generate it again")


def _build(recipe: Recipe, folder: Path, workers: int) -> None:
    """Write all splits and the manifest to `folder`."""
    for split, samples in _make_splits(recipe, workers):
        _write_split(samples, folder / split)
    splits = {split: _read_split(folder / split) for split in SPLITS}
    write_json(folder / _MANIFEST, {**recipe.facts(), "digest": digest(splits)})


def _make_splits(recipe: Recipe, workers: int) -> Iterator[tuple[str, Iterable[list[Sample]]]]:
    """Yield each split with its samples in chunks, generated by `workers` processes."""
    make = partial(_make_chunk, recipe.version, recipe.seed)
    jobs = {split: _chunk_ranges(split, recipe.sizes[split]) for split in SPLITS}
    workers = min(workers, sum(map(len, jobs.values())))
    if workers < 2:
        yield from ((split, map(make, jobs[split])) for split in SPLITS)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for split in SPLITS:
            yield split, _in_order(pool, make, jobs[split])


_Job = tuple[str, int, int]  # split, first picture, end


def _chunk_ranges(split: str, size: int) -> list[_Job]:
    return [(split, start, min(start + _CHUNK_SIZE, size)) for start in range(0, size, _CHUNK_SIZE)]


def _make_chunk(version: str, seed: int, job: _Job) -> list[Sample]:
    split, start, end = job
    return [make_sample(version, seed, split, index) for index in range(start, end)]


def _in_order(pool: ProcessPoolExecutor, make: partial[list[Sample]], jobs: Sequence[_Job]) -> Iterator[list[Sample]]:
    """Yield the chunks of `jobs`, generated by `pool`, or in this process if the pool's processes cannot start.

    They cannot start from a script without an `if __name__ == "__main__"` guard.
    """
    done = 0
    try:
        for chunk in pool.map(make, jobs):
            done += 1
            yield chunk
    except BrokenProcessPool:
        yield from map(make, jobs[done:])


def _write_split(chunks: Iterable[list[Sample]], folder: Path) -> None:
    """Write the three `datasets` folders of a split in batches."""
    import pyarrow as pa

    schemas = {
        "features": pa.schema({"regions": pa.list_(pa.float32(), N_REGIONS * DIM)}),
        "captions": pa.schema({"text": pa.string(), "image": pa.int64(), "said": pa.string()}),
        "pictures": pa.schema({"png": pa.binary(), "graph": pa.string()}),
    }
    folder.mkdir(parents=True)
    streams = {table: folder / f"{table}.arrow" for table in schemas}
    writers = {table: pa.ipc.new_stream(str(streams[table]), schema) for table, schema in schemas.items()}
    first = 0
    for chunk in chunks:
        for table, columns in _columns(chunk, first).items():
            writers[table].write_batch(pa.record_batch(columns, schema=schemas[table]))
        first += len(chunk)
    for table, writer in writers.items():
        writer.close()
        _save(streams[table], folder / table)


def _columns(chunk: Sequence[Sample], first: int) -> dict[str, list[Any]]:
    """Return the Arrow columns of samples per table; the first sample is picture `first`."""
    import pyarrow as pa

    flat = pa.array(np.concatenate([sample.features.ravel() for sample in chunk]))
    captions = [caption for sample in chunk for caption in sample.captions]
    images = chain.from_iterable([first + n] * len(sample.captions) for n, sample in enumerate(chunk))
    return {
        "features": [pa.FixedSizeListArray.from_arrays(flat, N_REGIONS * DIM)],
        "captions": [
            pa.array([caption.text for caption in captions]),
            pa.array(list(images), pa.int64()),
            pa.array([caption.said.to_json() for caption in captions]),
        ],
        "pictures": [
            pa.array([_png(sample.picture) for sample in chunk], pa.binary()),
            pa.array([sample.scene.to_json() for sample in chunk]),
        ],
    }


def _png(picture: Picture) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png", compress_level=3)
    return content.getvalue()


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
    captions = _open(folder / "captions").data
    true = np.asarray(captions.column("image").to_numpy(), np.int64)
    n_images = sum(map(len, chunks))
    if not np.array_equal(true, np.repeat(np.arange(n_images), CAPTIONS_PER_PICTURE)):
        raise ValueError(f"the captions in {folder.name} do not match its {n_images} pictures")
    return StoredSplit(chunks, captions.column("text").to_pylist(), true)
