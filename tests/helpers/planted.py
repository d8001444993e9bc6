"""Pairs of which some are mismatched on purpose, in the forms that users bring."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (245, 245, 245)}
PLACES = ("top", "bottom")


@dataclass(frozen=True)
class Planted:
    """Vectors of one space, (n, D) each, and which pairs are mismatched, (n,) bool."""

    images: np.ndarray
    texts: np.ndarray
    wrong: np.ndarray


def planted_vectors(count: int = 300, share: float = 0.3, dim: int = 24, noise: float = 0.5, seed: int = 0) -> Planted:
    """Return pairs of noisy copies of one vector; `share` of the images are moved by one another's place."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(count, dim))
    images, texts = (meaning + noise * rng.normal(size=(count, dim)) for _ in range(2))
    wrong = np.zeros(count, bool)
    moved = rng.choice(count, round(share * count), replace=False)
    wrong[moved] = True
    images[moved] = images[np.roll(moved, 1)]
    return Planted(images.astype(np.float32), texts.astype(np.float32), wrong)


def write_pictures(folder: Path, count: int = 120, share: float = 0.2, seed: int = 0) -> np.ndarray:
    """Write JPEGs of two colours and `pairs.csv` (key, file, caption, note); return which rows are mismatched.

    Rows are not in the order of the files' names.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    shown = rng.integers(len(names), size=(count, 2))
    said = shown.copy()
    wrong = np.zeros(count, bool)
    moved = rng.choice(count, round(share * count), replace=False)
    said[moved] = shown[np.roll(moved, 1)]
    wrong[moved] = (said[moved] != shown[moved]).any(1)
    rows = []
    for number in range(count):
        picture = np.empty((32, 32, 3), np.uint8)
        picture[:16], picture[16:] = (COLOURS[names[colour]] for colour in shown[number])
        picture[rng.integers(32), rng.integers(32)] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(folder / f"{count - number:04d}.jpg", quality=95)
        words = " and ".join(f"{names[colour]} {place}" for colour, place in zip(said[number], PLACES, strict=True))
        rows.append((f"k{number}", f"{count - number:04d}.jpg", words, f'0{number}, "as is"'))
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("key", "file", "caption", "note"))
        writer.writerows(rows)
    return wrong


def write_inputs(folder: Path, count: int = 60) -> None:
    """Write the inputs that the page on cleaning names: shop, pairs.csv, captions.tsv, vectors.npz and shards."""
    write_pictures(folder / "shop", count)
    shutil.copy(folder / "shop" / "pairs.csv", folder / "pairs.csv")
    with (folder / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["file\tcaption", *(f"{row['file']}\t{row['caption']}" for row in rows)]
    (folder / "captions.tsv").write_text("\n".join(lines) + "\n")
    found = planted_vectors(100)
    np.savez(folder / "vectors.npz", image_vectors=found.images, text_vectors=found.texts)
    (folder / "shards").mkdir()
    write_shard(folder / "shards" / "000.tar", folder / "shop", rows)


def write_shard(path: Path, pictures: Path, rows: list[dict[str, str]]) -> None:
    """Write a webdataset file of the rows of a table of `write_pictures`."""
    with tarfile.open(path, "w") as archive:
        for row in rows:
            for suffix, content in (("jpg", (pictures / row["file"]).read_bytes()), ("txt", row["caption"].encode())):
                member = tarfile.TarInfo(f"{row['key']}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
