"""The sources of the datasets `scenes` and `scenes-large`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import Captions, Dataset, ImageFeatures, IntVector, Split
from ncbench.data.scenes import store
from ncbench.data.scenes.closeness import SaidTable, SceneTable, closeness, pairs_at_least
from ncbench.data.scenes.grammar import Said, split_words
from ncbench.data.scenes.shipped import SEED, SIZES, VERSION
from ncbench.data.stamps import stamp
from ncbench.data.vocabulary import Vocabulary

SCALE = {"embed": 128, "similarity": 32, "word": 64, "dropout": 0.1}
BATCH_SIZE = 128
BUDGET = 5.0
BACKBONE = "vse-infinity"
_WORD_THRESHOLD = 2


class GraphSemantics:
    """Closeness computed from the stored graphs, which are read on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[str, tuple[SaidTable, SceneTable]] = {}
        self._found: dict[str, tuple[NDArray[np.float64], tuple[IntVector, IntVector]]] = {}

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
        """Return the closeness in [0, 1] of caption captions[i] and image images[i], (n,) float64.

        Raises UserError if the cache is damaged.
        """
        return closeness(*self._of(split), captions, images)

    def pairs_at_least(self, split: str, least: NDArray[np.float64]) -> tuple[IntVector, IntVector]:
        """Return the pairs (captions, images) whose closeness is at least `least` (captions,).

        Raises UserError if the cache is damaged.
        """
        if split not in self._found or not np.array_equal(self._found[split][0], least):
            self._found[split] = least, pairs_at_least(*self._of(split), least)
        return self._found[split][1]

    def _of(self, split: str) -> tuple[SaidTable, SceneTable]:
        if split not in self._tables:
            said = [Said.from_json(text) for text in store.read_said(self._folder, split)]
            self._tables[split] = SaidTable.build(said), SceneTable.build(store.read_graphs(self._folder, split))
        return self._tables[split]


class DrawnPictures:
    """The pictures that the features were computed from, drawn when asked for."""

    def __init__(self, recipe: store.Recipe, folder: Path) -> None:
        self._recipe = recipe
        self._folder = folder

    def picture(self, split: str, image: int) -> NDArray[np.uint8]:
        """Return picture `image` of `split`, (SIDE, SIDE, 3) uint8.

        Raises UserError if it is not the one that the features were computed from.
        """
        return store.read_picture(self._recipe, self._folder, split, image)


class Scenes:
    """A dataset of procedural pictures with captions; `sizes` are the pictures per split (train, dev, test).

    `folds` splits the test pictures for evaluation.
    """

    needs_root = False

    def __init__(self, name: str, sizes: Mapping[str, int], seed: int = SEED, folds: int = 1) -> None:
        self.name = name
        self.summary = f"procedural scenes with captions, {sizes['train']:,} training pictures; made on first use"
        self._folds = folds
        self._recipe = store.Recipe(name, VERSION, seed, dict(sizes))

    def load(self, root: Path | None = None, workers: int | None = None) -> Dataset:
        """Return the dataset, made on first use by `workers` processes (None: one per core).

        `root` is not used. Raises UserError if the cache is damaged or cannot be written.
        """
        folder = store.ensure(self._recipe, workers)
        files = stamp(sorted(path for path in folder.rglob("*") if path.is_file()))
        stored, digest = store.read(self._recipe, folder)
        words = {split: [split_words(text) for text in part.texts] for split, part in stored.items()}
        vocabulary = Vocabulary.build(words["train"], _WORD_THRESHOLD)
        splits = {
            split: Split(
                images=ImageFeatures(part.chunks),
                captions=Captions(part.texts, [vocabulary.encode(one) for one in words[split]]),
                true=part.true,
            )
            for split, part in stored.items()
        }
        return Dataset(
            name=self.name,
            version=VERSION,
            vocabulary=vocabulary,
            splits=splits,
            digest=digest,
            scale=SCALE,
            batch_size=BATCH_SIZE,
            budget=BUDGET,
            backbone=BACKBONE,
            folds=self._folds,
            semantics=GraphSemantics(folder),
            files=files,
            pictures=DrawnPictures(self._recipe, folder),
        )


SCENES = Scenes("scenes", SIZES)
SCENES_LARGE = Scenes("scenes-large", {"train": 20_000, "dev": 1_000, "test": 5_000}, folds=5)
