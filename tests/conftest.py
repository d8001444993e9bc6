"""A tiny dataset whose captions can be learned in seconds, and plugins that exist for one test only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import combinations_with_replacement

import numpy as np
import pytest

from ncbench import plugins
from ncbench.data.dataset import Captions, Dataset, ImageFeatures, Split
from ncbench.data.vocabulary import SPECIAL, Vocabulary

N_SHAPES = 6  # D: a region is a one-hot shape, a caption names the shapes of its image
N_IMAGES = {"train": 24, "dev": 8, "test": 8}
CAPTIONS_EACH = 2
WORDS = tuple(f"shape{number}" for number in range(N_SHAPES))


class SharedShapes:
    """Closeness: the share of the named shapes that the image shows."""

    def __init__(self, shapes: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> None:
        self.shapes, self.true = shapes, true

    def closeness(self, split: str, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
        said = self.shapes[split][self.true[split][captions]]
        seen = self.shapes[split][images]
        return (said[:, :, None] == seen[:, None, :]).any(2).mean(1)


def tiny_dataset(**changes: object) -> Dataset:
    """24 / 8 / 8 images of 3 regions, each a noisy one-hot shape; 2 captions per image: its shapes in some order."""
    rng = np.random.default_rng(5)
    kinds = rng.permutation(np.array(list(combinations_with_replacement(range(N_SHAPES), 3))))
    vocabulary = Vocabulary((*SPECIAL, *WORDS))
    splits, shapes, true = {}, {}, {}
    for name, count in N_IMAGES.items():
        shapes[name], kinds = kinds[:count], kinds[count:]
        features = np.eye(N_SHAPES, dtype=np.float32)[shapes[name]]
        features += rng.normal(0, 0.05, features.shape).astype(np.float32)
        true[name] = np.repeat(np.arange(count), CAPTIONS_EACH)
        # Every fifth caption leaves one shape out, so that lengths differ.
        said = [rng.permutation(shapes[name][image])[c % 5 == 0 :] for c, image in enumerate(true[name])]
        words = [[WORDS[shape] for shape in caption] for caption in said]
        captions = Captions([" ".join(caption) for caption in words], [vocabulary.encode(caption) for caption in words])
        splits[name] = Split(ImageFeatures([features]), captions, true[name])
    content: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "vocabulary": vocabulary,
        "splits": splits,
        "digest": "d" * 64,
        "scale": {"embed": 16, "similarity": 8, "word": 8, "dropout": 0.0},
        "batch_size": 8,
        "budget": 4.0,
        "semantics": SharedShapes(shapes, true),
    }
    return Dataset(**{**content, **changes})


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    return tiny_dataset()


@dataclass
class FakeEntry:
    """As much of an importlib.metadata.EntryPoint as plugins use; `thing` may be an exception to raise."""

    group: str
    name: str
    thing: object
    value: str = "somewhere:Thing"

    def load(self) -> object:
        if isinstance(self.thing, Exception):
            raise self.thing
        return self.thing


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that registers a plugin (group, name, thing) beside the installed ones, for one test.

    A fourth argument tells where it comes from.
    """
    fakes: list[FakeEntry] = []

    def find(group: str, name: str | None = None) -> list[object]:
        mine = [fake for fake in fakes if fake.group == group and name in (None, fake.name)]
        wanted = {"group": group} if name is None else {"group": group, "name": name}
        return [*mine, *entry_points(**wanted)]

    monkeypatch.setattr(plugins, "entry_points", find)
    return lambda *facts: fakes.append(FakeEntry(*facts))


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Return `tiny_dataset`, which takes changes of the fields of the dataset."""
    return tiny_dataset
