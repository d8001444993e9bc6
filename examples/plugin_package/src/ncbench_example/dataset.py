"""The dataset `dots`: every image shows two coloured dots, every caption names them."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np

from ncbench import Captions, Dataset, ImageFeatures, Split, Vocabulary

COLOURS = (
    *("red", "green", "blue", "black", "white", "brown", "grey", "pink"),
    *("orange", "purple", "cyan", "gold", "olive", "teal", "plum", "lime"),
)
WORDS = ("a", "and", "dot", *COLOURS)
SIZES = {"train": 80, "dev": 20, "test": 20}
VERSION = "1"


class Dots:
    """A source of the dataset; it needs no files."""

    name = "dots"
    summary = "120 images of two coloured dots each, made on the spot"
    needs_root = False

    def load(self, root: Path | None = None) -> Dataset:
        """Return the dataset; `root` is not used."""
        rng = np.random.default_rng(0)
        shown = rng.permutation(np.array(list(combinations(range(len(COLOURS)), 2))))
        vocabulary = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", *sorted(WORDS)))
        digest = hashlib.sha256(f"{self.name} {VERSION}".encode())
        splits = {}
        for name, count in SIZES.items():
            dots, shown = shown[:count], shown[count:]
            features = np.eye(len(COLOURS), dtype=np.float32)[dots]  # (images, 2 regions, colours)
            features += rng.normal(0, 0.1, features.shape).astype(np.float32)
            true = np.repeat(np.arange(count), 2)  # two captions per image: from the left, from the right
            orders = [dots[image][:: -1 if number % 2 else 1] for number, image in enumerate(true)]
            texts = [f"a {COLOURS[one]} dot and a {COLOURS[other]} dot" for one, other in orders]
            captions = Captions(texts, [vocabulary.encode(text.split()) for text in texts])
            splits[name] = Split(ImageFeatures([features]), captions, true)
            digest.update(features.tobytes() + "\n".join(texts).encode())
        return Dataset(
            name=self.name,
            version=VERSION,
            vocabulary=vocabulary,
            splits=splits,
            digest=digest.hexdigest(),
            scale={"embed": 32, "similarity": 16, "word": 16, "dropout": 0.0},
            batch_size=32,
            budget=10.0,
        )


DOTS = Dots()
