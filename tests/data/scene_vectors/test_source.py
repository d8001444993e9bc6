"""The dataset `scenes-vectors`: made once, the same bytes everywhere, judged as `scenes` is, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncbench.data.dataset import CaptionVectors, Dataset
from ncbench.data.scene_vectors import SCENES_VECTORS, encoders, source
from ncbench.data.scene_vectors.source import ScenesVectors
from ncbench.data.scenes import SCENES
from ncbench.data.scenes.shipped import SEED, VERSION, Series, shipped
from ncbench.data.scenes.source import Scenes
from ncbench.errors import UserError

SIZES = {"train": 12, "dev": 6, "test": 6}
DIGEST = "3857a84ac6e2ec7b7e71d5bd08015a36699780b9c1fb1d499abb850c2883ce69"


def tiny() -> ScenesVectors:
    return ScenesVectors("tiny-vectors", Scenes("tiny", SIZES))


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    return tiny().load(None, workers=1)


def folder_of(cache: Path) -> Path:
    (folder,) = cache.glob("tiny-vectors-*")
    return folder


def test_it_has_one_vector_per_picture_and_per_caption(loaded: Dataset) -> None:
    scenes = Scenes("tiny", SIZES).load(None)
    assert (loaded.name, loaded.version, loaded.backbone, loaded.presets) == ("tiny-vectors", "1", "vse-mlp", "tiny")
    assert (loaded.image_dim, loaded.n_regions, loaded.vector_dim) == (256, 1, 192)
    for name, split in loaded.splits.items():
        assert isinstance(split.captions, CaptionVectors)
        assert split.captions.texts == scenes.splits[name].captions.texts
        assert (split.true == scenes.splits[name].true).all()
        assert len(split.images) == SIZES[name]
    regions = shipped(Series(VERSION, SEED, "test"), 6).features
    expected = encoders.shipped()[0](regions) / 32
    np.testing.assert_array_equal(loaded.splits["test"].images.take(np.arange(6))[:, 0], expected)
    vectors, _ = loaded.splits["test"].captions.padded(np.arange(30))
    expected = encoders.shipped()[1](scenes.splits["test"].captions.texts) / 32
    np.testing.assert_array_equal(vectors, expected)


def test_meaning_and_pictures_are_those_of_scenes(loaded: Dataset) -> None:
    assert loaded.semantics is not None
    assert loaded.pictures is not None
    assert loaded.pictures.picture("test", 2).shape == (96, 96, 3)
    captions, images = np.divmod(np.arange(30 * 6), 6)
    values = loaded.semantics.closeness("test", captions, images)
    assert values[images == captions // 5].mean() > values.mean() + 0.3


def test_a_second_load_computes_nothing(loaded: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "shipped", lambda: pytest.fail("computed again"))
    assert tiny().load(None).digest == loaded.digest


def test_files_are_watched_while_a_run_uses_them(loaded: Dataset, tmp_path: Path) -> None:
    assert {stamp.path for stamp in loaded.files} >= {folder_of(tmp_path) / "vectors.npz"}


def flip_a_byte(folder: Path) -> None:
    path = folder / "vectors.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def other_vectors(folder: Path) -> None:
    with np.load(folder / "vectors.npz") as file:
        vectors = dict(file)
    vectors["dev.images"] = vectors["dev.images"][::-1]
    np.savez(folder / "vectors.npz", **vectors)


def other_encoders(folder: Path) -> None:
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**facts, "encoders": "0" * 64}))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        other_vectors,
        other_encoders,
        lambda folder: (folder / "vectors.npz").unlink(),
        lambda folder: (folder / "manifest.json").write_text("["),
    ],
    ids=["flipped byte", "other vectors", "other encoders", "no vectors", "torn manifest"],
)
def test_a_damaged_cache_is_named(damage: Callable[[Path], object], loaded: Dataset, tmp_path: Path) -> None:
    damage(folder_of(tmp_path))
    with pytest.raises(UserError, match=r"tiny-vectors-1-[0-9a-f]{12} is damaged .*delete it to generate it again$"):
        tiny().load(None)


def test_the_digest_of_the_whole_set_is_pinned() -> None:
    assert SCENES_VECTORS.load(None).digest == DIGEST
    assert SCENES_VECTORS.name == "scenes-vectors"
    assert SCENES_VECTORS.summary.startswith(f"{SCENES.name} as vectors of two frozen networks")
