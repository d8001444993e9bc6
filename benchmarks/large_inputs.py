"""Measure how time and memory grow with the size of the input, up to 200,000 images with a million captions.

Usage: python benchmarks/large_inputs.py --folder DIR [--images N ...] [--step NAME ...] [--share S] [--json FILE]

Every size has five captions per image, features of 64 numbers, and captions of 12 words. Files are synthetic, written
to DIR once per size and deleted. Every step runs in a process of its own: CPU and wall seconds of the step, and its
peak of resident memory beyond the imports, which includes the open dataset. A slope is the exponent of growth between
neighbouring sizes: 1 is linear, 2 quadratic.

* `open`, `open again`: the dataset, with its captions split into words, and with these from the cache;
* a noise protocol: drawing 40 % of it;
* `record`, `audit`: writing the record of a training with a belief about every pair, and `ncbench audit` of it;
* `evaluate`: encoding, scoring and ranking all images against all captions, and what records keep of it;
* `evaluate, part`, `semantic, part`: for a share of the captions, from which the time for all is estimated;
* `evaluate, matrix`: as `evaluate`, with the matrix of all similarities, for the smallest size; ranks must be the same;
* `clean`: `ncbench clean --scorers cosine` on as many pairs as captions, of vectors of 64 numbers.

Results are added to FILE, and the table is printed from all that it holds.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from clean_inputs import write_vectors
from full_size import CAPTIONS_EACH, apart, make

from ncbench import draw_noise, record
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.cli import main as ncbench
from ncbench.data.dataset import Dataset
from ncbench.data.precomp import F30K
from ncbench.evaluation.blocks import Block, Blocks, Scored
from ncbench.evaluation.scored_blocks import ScoredBlocks
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.arrays import RANKS_FILE, load_ranks
from ncbench.records.scored import save_scores

SIZES = (10_000, 40_000, 100_000, 200_000)  # images
SMALL_SPLIT = (1_000, 1)  # images of dev and test, and rows per image
DIM, EMBED, WORD = 64, 64, 32
RATIO = 0.4
PROTOCOLS = ("shuffle-images", "shuffle-captions", "semantic", "partial", "concentrated", "harvested")
MATRIX_IMAGES = 10_000
"""Images up to which the whole matrix is computed too: 2 GB of similarities."""

PART = ", part"
"""Ends the names of steps that do a share of the work."""

CPU = torch.device("cpu")


@contextmanager
def timed(found: dict[str, Any]) -> Iterator[None]:
    """Add the wall and CPU seconds of the block to `found`."""
    since, worked = time.perf_counter(), time.process_time()
    yield
    found |= {"seconds": time.perf_counter() - since, "cpu_seconds": time.process_time() - worked}


def opening(root: Path) -> dict[str, Any]:
    """Measure opening the dataset."""
    found: dict[str, Any] = {}
    with timed(found):
        F30K.load(root)
    return found


def drawing(root: Path, protocol: str, ratio: float = RATIO) -> dict[str, Any]:
    """Measure drawing noise."""
    dataset, found = F30K.load(root), dict[str, Any]()
    with timed(found):
        noise = draw_noise(dataset, ratio, protocol=protocol)
    true = dataset.splits["train"].true
    wrong = ~noise.clean(true)
    return found | {"mismatched": float(wrong.mean()), "moved_images": len(np.unique(true[wrong]))}


def drawing_part(root: Path, share: float) -> dict[str, Any]:
    """Measure `semantic` for few captions; estimate the time for all from the images that are compared with others."""
    found = drawing(root, "semantic", share * RATIO)
    images = len(F30K.load(root).splits["train"].images)
    share = found["moved_images"] / (images * (1 - (1 - RATIO) ** CAPTIONS_EACH))
    return found | {"share": share, **{key: found[key] / share for key in ("seconds", "cpu_seconds")}}


def recording(root: Path, runs: Path) -> dict[str, Any]:
    """Measure writing the record of a training that believes something about every pair."""
    dataset, rng, found = F30K.load(root), np.random.default_rng(0), dict[str, Any]()
    noise = draw_noise(dataset, RATIO, protocol="shuffle-captions")
    clean = noise.clean(dataset.splits["train"].true)
    p_clean = np.clip(rng.normal(0.3 + 0.4 * clean, 0.2), 0, 1)
    scores = rng.random((SMALL_SPLIT[0], SMALL_SPLIT[0] * CAPTIONS_EACH), np.float32)
    with timed(found):
        record(scores, scores, dataset, noise, method="own", seconds=1.0, device="none", p_clean=p_clean, out=runs)
    return found


def auditing(root: Path, runs: Path) -> dict[str, Any]:
    """Measure `ncbench audit` of all pairs of that record."""
    (run,), found = runs.glob("*/*/*/result.json"), dict[str, Any]()
    out = runs / "audit.csv"
    with timed(found):
        command("audit", str(run.parent), "--data-root", str(root), "--out", str(out), "--with-truth", "--force")
    with out.open("rb") as file:
        return found | {"rows": sum(1 for _ in file) - 1}


def evaluating(root: Path, folder: Path, whole: bool = False, share: float = 1.0) -> dict[str, Any]:
    """Measure the scores of a split under a network that was not trained, as a run writes them into its record."""
    dataset, network = evaluated(root)
    split, found = dataset.splits["test"], dict[str, Any]()
    folder.mkdir()
    with timed(found), np.errstate(invalid="ignore"):  # true pairs that a share leaves out have no score
        if whole:
            scored: Scored = similarity_matrix([network], split, CPU)
        else:
            blocks = ScoredBlocks([network], split, CPU)
            scored = blocks if share == 1 else First(blocks, share)
        save_scores(folder, scored, dataset, "no method")
    if share < 1:
        # Encoding the images, and what happens once after all blocks, are multiplied too; both are small.
        found |= {"share": share, **{key: found[key] / share for key in ("seconds", "cpu_seconds")}}
    return found


class First(Blocks):
    """The first blocks, which have a `share` of all pairs."""

    def __init__(self, blocks: Blocks, share: float) -> None:
        self.shape, self._blocks, self._pairs = blocks.shape, blocks, share * math.prod(blocks.shape)

    def __iter__(self) -> Iterator[Block]:
        pairs = 0
        for block in self._blocks:
            if pairs >= self._pairs:
                return
            pairs += block.scores.size
            yield block


def evaluated(root: Path) -> tuple[Dataset, Backbone]:
    """Return a dataset whose test split is large, and a network for it."""
    opened = F30K.load_split(root, "train")
    dataset = replace(opened, splits={"train": opened.splits["train"], "test": opened.splits["train"]})
    torch.manual_seed(0)
    return dataset, build_backbone("vse", Sizes.of(dataset, {"embed": EMBED, "word": WORD}))


def cleaning(path: Path) -> dict[str, Any]:
    """Measure `ncbench clean` with its cheapest scorer."""
    found: dict[str, Any] = {}
    with timed(found):
        command("clean", str(path), "--scorers", "cosine", "--out", str(path.with_suffix(".csv")), "--force")
    return found


def command(*words: str) -> None:
    """Run a command of ncbench in this process."""
    ncbench(words, standalone_mode=False)


def check_ranks(one: Path, other: Path) -> None:
    """Raise ValueError unless two folders hold the same ranks."""
    ranks = [load_ranks(folder / RANKS_FILE)["test"] for folder in (one, other)]
    for side in ("i2t", "t2i"):
        if not np.array_equal(*(getattr(each, side)[0] for each in ranks)):
            raise ValueError(f"{side}: the ranks of blocks are not those of the matrix")


def steps(folder: Path, images: int, share: float) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the steps for a size, by name, in an order in which they can run."""
    data, runs, vectors = folder / "data", folder / "runs", folder / f"vectors-{images * CAPTIONS_EACH}.npz"
    found: dict[str, Callable[[], dict[str, Any]]] = {"open": partial(opening, data)}
    found |= {"open again": partial(opening, data)}
    found |= {protocol: partial(drawing, data, protocol) for protocol in PROTOCOLS}
    found |= {"record": partial(recording, data, runs), "audit": partial(auditing, data, runs)}
    found |= {"clean": partial(cleaning, vectors), "evaluate": partial(evaluating, data, folder / "blocks")}
    if share < 1:
        found |= {"semantic" + PART: partial(drawing_part, data, share)}
        found |= {"evaluate" + PART: partial(evaluating, data, folder / "part", share=share)}
    if images <= MATRIX_IMAGES:
        found |= {"evaluate, matrix": partial(evaluating, data, folder / "matrix", whole=True)}
    return found


def measured(folder: Path, images: int, wanted: Sequence[str], share: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is measured for a size, step by step; the files are deleted at the end."""
    os.environ["NCBENCH_CACHE"] = str(folder / "cache")
    folder.mkdir(parents=True)
    try:
        make(
            folder / "data",
            {"train": (images, 1), "dev": SMALL_SPLIT, "test": SMALL_SPLIT},
            regions=1,
            dim=DIM,
            independent=True,
        )
        if not wanted or "clean" in wanted:
            write_vectors(folder, images * CAPTIONS_EACH, DIM)
        found = steps(folder, images, share)
        for name in wanted or found:
            if measure := found.get(name):
                before = os.getloadavg()[0]
                yield name, apart(measure) | {"load": round(before, 1)}
        if (folder / "matrix").exists() and (folder / "blocks").exists():
            check_ranks(folder / "matrix", folder / "blocks")
    finally:
        shutil.rmtree(folder)


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Yield the lines of a table of all that was measured: a row for each step, a column for each size."""
    sizes = sorted(found, key=int)
    names = dict.fromkeys(name.removesuffix(PART) for size in sizes for name in found[size])
    yield f"| step | {' | '.join(f'{int(size):,}' for size in sizes)} | slope of time | slope of memory |"
    yield f"| --- |{' ---: |' * (len(sizes) + 2)}"
    for name in names:
        cells = [found[size].get(name) or found[size].get(name + PART) for size in sizes]
        shown = [shown_as(each) if each else "" for each in cells]
        slopes = [
            slope([(int(size), each[key]) for size, each in zip(sizes, cells, strict=True) if each])
            for key in ("cpu_seconds", "resident_beyond_imports")
        ]
        yield f"| {' | '.join((name, *shown, *slopes))} |"


def shown_as(found: Mapping[str, float]) -> str:
    """Return CPU seconds and memory in words; seconds that were estimated from a share are `about` so many."""
    about = "about " if "share" in found else ""
    return f"{about}{found['cpu_seconds']:,.1f} s, {found['resident_beyond_imports'] / 1e6:,.0f} MB"


def slope(points: Sequence[tuple[float, float]]) -> str:
    """Return the exponents of growth between neighbouring sizes: 1 is linear, 2 quadratic."""
    return ", ".join(f"{math.log(b / a) / math.log(m / n):.2f}" for (n, a), (m, b) in pairwise(points))


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="For the files; must not exist.")
@click.option("--images", "sizes", type=int, multiple=True, default=SIZES, show_default=True)
@click.option("--step", "wanted", multiple=True, help="Only these steps.  [default: all]")
@click.option("--share", default=1.0, show_default=True, help="Of captions, in `part` steps.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Add the results to this file.")
def main(folder: Path, sizes: Sequence[int], wanted: Sequence[str], share: float, path: Path | None) -> None:
    """Measure all steps for all sizes, and print the table."""
    content: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    for images in sizes:
        for name, found in measured(folder, images, wanted, share):
            click.echo(f"{images:,} {name}: {found}")
            content.setdefault(str(images), {})[name] = {"commit": commit.stdout.strip(), **found}
            if path is not None:
                path.write_text(json.dumps(content, indent=1) + "\n")
    for line in table(content):
        click.echo(line)


if __name__ == "__main__":
    main()
