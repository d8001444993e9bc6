"""Measure a dataset of Flickr30K's size: opening, batches per second, resident memory, and conversion.

The files are synthetic (8.5 GB of features for training). They are written once, measured and deleted:

    python benchmarks/full_size.py --folder /tmp/full-size --json benchmarks/full_size.json

Each measurement runs in a separate process, so that its peak of resident memory is its own. Measurements called `cold`
first drop the system's cache of the files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

REGIONS, DIM = 36, 2048
SPLITS = {"train": (29_000, 1), "dev": (1_014, 5), "test": (1_000, 5)}  # images, rows per image
WORDS, CAPTIONS_EACH = 8_481, 5
BATCH = 128
_BLOCK = 128  # rows written at a time


def make(
    root: Path,
    splits: Mapping[str, tuple[int, int]],
    regions: int = REGIONS,
    dim: int = DIM,
    independent: bool = False,
) -> None:
    """Write a synthetic `f30k` below `root`, with so many images and rows per image in each split.

    Features repeat after a few images, but for one number, as drawing them takes longer than writing, or all are drawn
    if they are to be `independent`.
    """
    folder = root / "f30k_precomp"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ["<pad>", "<start>", "<end>", "<unk>", *(f"w{number}" for number in range(4, WORDS))]
    ids = {name: number for number, name in enumerate(names)}
    (root / "vocab").mkdir()
    vocabulary = {"word2idx": ids, "idx2word": {str(n): name for name, n in ids.items()}, "idx": len(ids)}
    (root / "vocab" / "f30k_precomp_vocab.json").write_text(json.dumps(vocabulary))
    for split, (count, repeats) in splits.items():
        said = rng.integers(4, WORDS, size=(count * CAPTIONS_EACH, 12))
        lines = (" ".join(f"w{word}" for word in row) + " .\n" for row in said)
        (folder / f"{split}_caps.txt").write_text("".join(lines))
        shape = (count * repeats, regions, dim)
        noise = rng.random((_BLOCK, regions, dim), np.float32)
        with (folder / f"{split}_ims.npy").open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, count, _BLOCK):
                block = noise[: min(_BLOCK, count - start)]
                if independent:
                    block = rng.standard_normal(block.shape, np.float32)
                else:
                    block[:, 0, 0] = np.arange(start, start + len(block))  # every image is different
                file.write(np.repeat(block, repeats, axis=0).tobytes())


def drop_cache(root: Path) -> None:
    """Ask the system to drop its cache of the files below `root`."""
    os.sync()
    for path in root.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def fill_cache(root: Path) -> None:
    """Read all files below `root` once, so that the system caches them."""
    for path in root.rglob("*.npy"):
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def peak() -> int:
    """Return the peak resident memory of this process in bytes (Linux; ru_maxrss would start at the parent's)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def apart(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `measure` in a separate process, with its peak of memory beyond the imports."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (measure,))


def _measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    import torch

    from ncbench.runtime.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as every run does
    warnings.simplefilter("ignore")
    before = peak()
    found = measure()
    return {**found, "resident_beyond_imports": peak() - before}


def opening(root: Path, cold: bool) -> dict[str, Any]:
    """Measure the time to open the dataset."""
    from ncbench.data.precomp import F30K

    if cold:
        drop_cache(root)
        shutil.rmtree(root / "cache", ignore_errors=True)  # the cache of word ids
    since, worked = time.perf_counter(), time.process_time()
    F30K.load(root)
    return {"seconds": time.perf_counter() - since, "seconds_of_cpu": time.process_time() - worked}


def batching(root: Path, batches: int, order: str, cold: bool, step: float) -> dict[str, Any]:
    """Measure batches per second, with `step` seconds after each in which a GPU would compute."""
    import torch

    from ncbench.data.precomp import F30K
    from ncbench.data.training_view import Batches, TrainingView

    train = F30K.load(root).splits["train"]
    view = TrainingView(train.images, train.captions, train.true, torch.device("cpu"))
    pairs = np.random.default_rng(1).permutation(len(view)) if order == "random" else np.arange(len(view))
    if cold:
        drop_cache(root)
    else:
        fill_cache(root)
    rng = np.random.default_rng(2)  # of later passes; the first one is in the order of `pairs`
    reader = Batches(view, BATCH, rng, np.arange(len(view)), drop_last=True, endless=True, left=pairs)
    next(reader)
    waited, since = 0.0, time.perf_counter()
    for _ in range(batches):
        before = time.perf_counter()
        next(reader)
        waited += time.perf_counter() - before
        time.sleep(step)
    return {
        "batches_per_second": batches / (time.perf_counter() - since),
        "share_waited": waited / (waited + batches * step) if step else 1.0,
    }


def checking(root: Path, batches: int) -> dict[str, Any]:
    """Measure what it costs to check features when they are first read: cached batches, three ways in turns."""
    from ncbench.data.precomp import F30K

    fill_cache(root)
    images = F30K.load(root).splits["train"].images
    rng = np.random.default_rng(1)
    sound = np.zeros_like(images._sound)
    ways: dict[str, Callable[[], None]] = {
        "first": lambda: sound.fill(False),  # as if no row had been read
        "later": lambda: sound.fill(True),
        "without": lambda: sound.fill(True),
    }
    check = images._check
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(batches):
        chosen = rng.integers(len(images), size=BATCH)
        images.take(chosen)  # from the disk, if the cache has dropped it
        for name, begin in ways.items():
            begin()
            images._sound = sound
            images._check = check if name != "without" else lambda rows, read: None  # type: ignore[method-assign]
            since = time.perf_counter()
            images.take(chosen)
            seconds[name].append(time.perf_counter() - since)
    return {name: sorted(each)[len(each) // 2] for name, each in seconds.items()}


def in_memory(root: Path, batches: int) -> dict[str, Any]:
    """Measure numpy.load into memory, followed by plain indexing."""
    since = time.perf_counter()
    features = np.load(root / "f30k_precomp" / "train_ims.npy")
    loaded = time.perf_counter() - since
    pairs = np.random.default_rng(1).permutation(len(features) * CAPTIONS_EACH) // CAPTIONS_EACH
    since = time.perf_counter()
    for number in range(batches):
        _ = features[pairs[number * BATCH : (number + 1) * BATCH]]
    return {"seconds_to_load": loaded, "batches_per_second": batches / (time.perf_counter() - since)}


def converting(folder: Path, rows: int) -> dict[str, Any]:
    """Measure the conversion of a parquet file of `rows` images of the same size by `--dataset hf:`."""
    from ncbench.data.imported.request import Request
    from ncbench.data.imported.source import Imported

    path = folder / "rows.parquet"
    since = time.perf_counter()
    dataset = Imported(Request(str(path), "captions", "regions", regions=REGIONS)).load()
    seconds = time.perf_counter() - since
    sizes = {split: len(part.images) for split, part in dataset.splits.items()}
    return {"rows": rows, "images": sizes, "file_bytes": path.stat().st_size, "seconds": seconds}


def make_parquet(folder: Path, rows: int) -> None:
    """Write a parquet file of `rows` images, with regions in one list and 1,000 rows per group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    width = REGIONS * DIM
    schema = pa.schema([("regions", pa.list_(pa.float32())), ("captions", pa.list_(pa.string()))])
    folder.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(folder / "rows.parquet", schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, 1000):
            count = min(1000, rows - start)
            values = pa.array(rng.random(count * width, np.float32))
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * width)
            captions = pa.array([[f"a picture of thing {start + n}", "another one"] for n in range(count)])
            writer.write_table(pa.table([pa.ListArray.from_arrays(offsets, values), captions], schema=schema))


def halving(root: Path) -> dict[str, Any]:
    """Measure how half-precision features change the scores of a released network (the fixture of `eval`)."""
    import torch

    from ncbench.data.precomp import F30K
    from ncbench.evaluation.retrieval import evaluate
    from ncbench.evaluation.similarity import similarity_matrix
    from ncbench.records.networks import read_checkpoint

    (network,) = read_checkpoint(next(root.glob("*.pth.tar"))).build(F30K.load_split(root, "test"))
    split = F30K.load_split(root, "test").splits["test"]
    whole = similarity_matrix([network], split, torch.device("cpu"))
    halves = HalfPrecision(split.images.take(np.arange(len(split.images))))
    other = similarity_matrix([network], type(split)(halves.images, split.captions, split.true), torch.device("cpu"))
    return {
        "largest_change_of_a_score": float(abs(whole - other).max()),
        "rsum": evaluate(whole, split.true).rsum,
        "rsum_of_half": evaluate(other, split.true).rsum,
    }


class HalfPrecision:
    """Features rounded to float16."""

    def __init__(self, features: np.ndarray) -> None:
        from ncbench.data.dataset import ImageFeatures

        self.images = ImageFeatures([features.astype(np.float16)])  # type: ignore[list-item]


def main(arguments: Sequence[str] | None = None) -> None:
    """Create the files, measure, delete them, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder for the files; must not exist")
    parser.add_argument("--images", type=int, default=SPLITS["train"][0], help="training images")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--step", type=float, default=0.1, help="seconds of a simulated GPU step")
    parser.add_argument("--rows", type=int, default=7_000, help="rows of the parquet file that is converted")
    parser.add_argument("--json", type=Path, help="where to write the results")
    given = parser.parse_args(arguments)
    if given.folder.exists():
        parser.error(f"{given.folder} already exists")
    fixture = Path(__file__).parents[1] / "tests" / "fixtures" / "published_sgr"
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "opened first, cold": partial(opening, given.folder, True),
        "opened again": partial(opening, given.folder, False),
        "random order, cold": partial(batching, given.folder, given.batches, "random", True, 0.0),
        "random order, cached": partial(batching, given.folder, given.batches, "random", False, 0.0),
        "in order, cold": partial(batching, given.folder, given.batches, "sorted", True, 0.0),
        "random order, beside a step": partial(batching, given.folder, given.batches, "random", False, given.step),
        "checked when first read": partial(checking, given.folder, given.batches),
        "numpy.load into memory": partial(in_memory, given.folder, given.batches),
        "half precision": partial(halving, fixture),
    }
    found: dict[str, Any] = {}
    os.environ["NCBENCH_CACHE"] = str(given.folder / "cache")
    try:
        since = time.perf_counter()
        make(given.folder, {name: (min(count, given.images), rows) for name, (count, rows) in SPLITS.items()})
        found["written"] = {"seconds": time.perf_counter() - since}
        for name, measure in ways.items():
            found[name] = apart(measure)
            print(name, found[name], flush=True)
        shutil.rmtree(given.folder)
        make_parquet(given.folder, given.rows)
        found["converted"] = apart(partial(converting, given.folder, given.rows))
        print("converted", found["converted"], flush=True)
    finally:
        shutil.rmtree(given.folder, ignore_errors=True)
    if given.json is not None:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        options = {key: value for key, value in vars(given).items() if key not in ("folder", "json")}
        content = {"commit": commit.stdout.strip(), "options": options, "measured": found}
        given.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
