"""What `ncbench clean` takes on whole inputs, and whether its lists hold the right rows: mismatched pairs are planted.

Usage: python benchmarks/clean_inputs.py {vectors,pictures} --folder DIR [--pairs N] [--json FILE] [-- OPTION ...]

`vectors` is an .npz file with two matrices of 512-dimensional vectors of one space, as CLIP gives; `pictures` a folder
of JPEG files of `scenes` and a table of their captions. In both, 30 % of the captions belong to other images. The
command runs as a user runs it, in a process of its own, whose CPU time and peak of resident memory are read at its end.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from ncbench.data.registry import load_dataset

DIM, TOPICS, MISMATCHED = 512, 64, 0.3
BLOCK = 20_000


def planted(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs are mismatched (count,), and whose caption each pair has."""
    rng = np.random.default_rng(0)
    wrong, owner = rng.random(count) < MISMATCHED, np.arange(count)
    owner[wrong] = np.roll(owner[wrong], 1)
    return wrong, owner


def write_vectors(folder: Path, count: int, dim: int = DIM) -> tuple[Path, np.ndarray]:
    """Write an .npz file of pairs block by block; return it, and which pairs are mismatched."""
    wrong, owner = planted(count)
    rng = np.random.default_rng(1)
    topics = rng.normal(size=(count, TOPICS)).astype(np.float32)
    image_map = rng.normal(size=(TOPICS, dim)).astype(np.float32)
    text_map = image_map + rng.normal(size=(TOPICS, dim)).astype(np.float32) / 2
    path = folder / f"vectors-{count}.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, maps, of in (("image_vectors", image_map, np.arange(count)), ("text_vectors", text_map, owner)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, count, BLOCK):
                    some = topics[of[start : start + BLOCK]] @ maps
                    file.write((some + 4 * rng.normal(size=some.shape)).astype("<f4").tobytes())
    return path, wrong


def write_pictures(folder: Path, count: int) -> tuple[Path, np.ndarray]:
    """Write a folder of JPEG files and `captions.csv`; return it, and which pairs are mismatched."""
    wrong, owner = planted(count)
    data = load_dataset("scenes", None)
    assert data.pictures is not None
    captions, first = data.splits["train"].captions, np.searchsorted(data.splits["train"].true, np.arange(count))
    path = folder / f"pictures-{count}"
    path.mkdir(exist_ok=True)
    with (path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption"])
        for image in range(count):
            Image.fromarray(data.pictures.picture("train", image)).save(path / f"{image}.jpg", quality=90)
            table.writerow([f"{image}.jpg", captions.texts[first[owner[image]]]])
    return path, wrong


def measured(path: Path, out: Path, options: Sequence[str]) -> dict[str, float]:
    """Run `ncbench clean`; return its seconds, CPU seconds and peak of resident memory in MB."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", "from ncbench.cli import main; main()", "clean", str(path), "--out", str(out)]
    subprocess.run([*command, "--force", *options], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": round(after.ru_maxrss * 1024 / 1e6),
        "load": round(os.getloadavg()[0], 1),
    }


def judged(out: Path, wrong: np.ndarray) -> dict[str, Any]:
    """Return how many rows each list has, and how many of them are mismatched. Raises ValueError for other rows."""
    seen, found = np.zeros(len(wrong), np.int64), dict[str, Any]()
    for verdict in ("kept", "review", "dropped"):
        path = out if verdict == "kept" else out.with_name(f"{out.stem}.{verdict}{out.suffix}")
        with path.open(newline="", encoding="utf-8") as file:
            rows = np.array([int(row["source_row"]) for row in csv.DictReader(file)], np.int64)
        seen[rows] += 1
        found[verdict] = {"rows": len(rows), "mismatched": int(wrong[rows].sum())}
    if not (seen == 1).all():
        raise ValueError(f"{int((seen != 1).sum())} rows are not in exactly one list")
    summary = json.loads(out.with_suffix(".json").read_text())
    return found | {"planted": int(wrong.sum()), "estimated": summary["ratio"]["estimate"]}


@click.command()
@click.argument("kind", type=click.Choice(["vectors", "pictures"]))
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
@click.option("--pairs", default=2_000, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also add the result to this file.")
@click.argument("options", nargs=-1)
def main(kind: str, folder: Path, pairs: int, path: Path | None, options: Sequence[str]) -> None:
    """Measure `ncbench clean` with OPTIONS on an input of N pairs that is written to a folder."""
    source, wrong = (write_vectors if kind == "vectors" else write_pictures)(folder, pairs)
    out = folder / f"{source.stem}.csv"
    result = {"input": kind, "pairs": pairs, "options": list(options), **measured(source, out, options)}
    result |= judged(out, wrong)
    click.echo(json.dumps(result))
    if path is not None:
        before = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*before, result], indent=1) + "\n")


if __name__ == "__main__":
    main()
