"""The scenes source: generation, caching, reading, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncbench.data.scenes import SCENES, SCENES_LARGE, making, sample, store
from ncbench.data.scenes.boxes import N_REGIONS
from ncbench.data.scenes.detector import DIM, STEPS, Regions, features_of
from ncbench.data.scenes.render import SIDE
from ncbench.data.scenes.sample import Series
from ncbench.data.scenes.source import Scenes
from ncbench.errors import UserError

SIZES = {"train": 12, "dev": 6, "test": 6}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCBENCH_CACHE", str(root))
        tiny().load(None, workers=1)
    return root / "tiny-2-0"


@pytest.fixture
def filled(cache: Path, original: Path) -> Path:
    """Return a cache with a finished folder of `tiny()`."""
    shutil.copytree(original, cache / original.name)
    return cache


def tiny(**options: int) -> Scenes:
    return Scenes("tiny", SIZES, **options)


def test_entry_points_have_names_without_loading() -> None:
    assert (SCENES.name, SCENES_LARGE.name) == ("scenes", "scenes-large")
    assert not SCENES.needs_root
    assert "4,000" in SCENES.summary
    assert "20,000" in SCENES_LARGE.summary


def test_a_loaded_dataset_is_complete(cache: Path) -> None:
    dataset = tiny().load(None, workers=1)
    assert (dataset.name, dataset.version, dataset.folds) == ("tiny", "2", 1)
    assert (dataset.n_regions, dataset.image_dim) == (N_REGIONS, DIM)
    assert dataset.truth_known
    for split, size in SIZES.items():
        part = dataset.splits[split]
        assert len(part.images) == size
        assert len(part.captions) == 5 * size
        np.testing.assert_array_equal(part.true, np.repeat(np.arange(size), 5))
    ids, lengths = dataset.splits["train"].captions.padded(np.arange(60))
    assert ids.max() < len(dataset.vocabulary)
    assert lengths.min() > 4
    assert [path.name for path in cache.iterdir()] == ["tiny-2-0"]


def test_features_are_those_of_the_pictures(filled: Path) -> None:
    dataset = tiny().load(None)
    features = dataset.splits["dev"].images.take(np.arange(6))
    assert dataset.pictures is not None
    for index in range(6):
        seen = features_of(Regions.of(dataset.pictures.picture("dev", index)))
        np.testing.assert_array_equal(seen.astype(np.float32) / STEPS, features[index])


def test_pictures_are_drawn_when_asked_for(filled: Path) -> None:
    dataset = tiny().load(None)
    assert dataset.pictures is not None
    for split, index in (("train", 11), ("test", 0)):
        picture = dataset.pictures.picture(split, index)
        assert (picture.shape, picture.dtype) == ((SIDE, SIDE, 3), np.uint8)
        np.testing.assert_array_equal(picture, Series("2", 0, split).picture(index))
    shutil.rmtree(filled / "tiny-2-0" / "train" / "pictures")
    with pytest.raises(UserError, match="is damaged"):
        dataset.pictures.picture("train", 0)


def test_a_picture_that_is_drawn_differently_is_refused(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tiny().load(None).pictures
    assert pictures is not None
    draw = sample.render

    def one_level_off(*arguments: Any) -> sample.Picture:
        picture = draw(*arguments)
        picture[50, 50, 1] ^= 1
        return picture

    monkeypatch.setattr(sample, "render", one_level_off)
    with pytest.raises(UserError, match="picture 2 of test does not match its fingerprint"):
        pictures.picture("test", 2)


def test_features_are_read_in_place(filled: Path) -> None:
    recipe = store.Recipe("tiny", "2", 0, SIZES)
    splits, _ = store.read(recipe, recipe.folder)
    for chunk in splits["train"].chunks:
        assert chunk.dtype == np.float32
        assert not chunk.flags.owndata
        assert not chunk.flags.writeable


def test_semantics_prefer_the_own_captions(filled: Path) -> None:
    semantics = tiny().load(None).semantics
    assert semantics is not None
    captions, images = np.divmod(np.arange(30 * 6), 6)
    values = semantics.closeness("test", captions, images)
    own = images == captions // 5
    assert values.min() >= 0
    assert values.max() <= 1
    assert values[own].mean() > values[~own].mean() + 0.3


def test_builds_do_not_depend_on_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "CHUNK_SIZE", 5)
    digests = []
    for workers in (1, 2):
        monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / str(workers)))
        digests.append(tiny(seed=1).load(None, workers=workers).digest)
    assert digests[0] == digests[1]
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "other"))
    assert tiny().load(None, workers=1).digest != digests[0]


def test_the_first_pictures_do_not_depend_on_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    few, more = (Scenes(f"of-{n}", dict.fromkeys(SIZES, n)).load(None, workers=1) for n in (3, 4))
    assert few.splits["test"].captions.texts == more.splits["test"].captions.texts[:15]


def test_a_second_load_generates_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny().load(None, workers=1)

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(store, "_build", refuse)
    assert tiny().load(None).digest == first.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: next((folder / "dev/features").glob("*.arrow")).write_bytes(b"nothing"),
        lambda folder: next((folder / "train/captions").glob("*.arrow")).unlink(),
        lambda folder: flip_a_byte(next((folder / "test/features").glob("*.arrow"))),
        lambda folder: replace_texts(folder / "test", "captions", "said", '"category":', '"colour":'),
        lambda folder: replace_texts(folder / "dev", "pictures", "graph", '"tint":', '"tinu":'),
        lambda folder: edit_manifest(folder, "format", 0),
        lambda folder: edit_manifest(folder, "pictures", {"train": 13, "dev": 6, "test": 6}),
    ],
    ids=[
        "no manifest",
        "torn manifest",
        "odd manifest",
        "no arrow",
        "no file",
        "flipped byte",
        "said",
        "graph",
        "old format",
        "sizes",
    ],
)
def test_a_damaged_cache_is_named(filled: Path, damage: Callable[[Path], object]) -> None:
    folder = filled / "tiny-2-0"
    damage(folder)
    with pytest.raises(UserError, match=r"tiny-2-0 is damaged .*delete it"):
        tiny().load(None)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def replace_texts(folder: Path, table: str, column: str, old: str, new: str) -> None:
    """Replace a text in a column of a table, whose length need not change."""
    path = next((folder / table).glob("*.arrow"))
    content = path.read_bytes()
    assert old.encode() in content, column
    path.write_bytes(content.replace(old.encode(), new.ljust(len(old)).encode()))


def edit_manifest(folder: Path, key: str, value: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_a_damaged_graph_is_named_when_asked_for(filled: Path) -> None:
    dataset = tiny().load(None)
    next((filled / "tiny-2-0/test/pictures").glob("*.arrow")).write_bytes(b"nothing")
    assert dataset.semantics is not None
    with pytest.raises(UserError, match="is damaged"):
        dataset.semantics.closeness("test", np.array([0]), np.array([0]))


def test_a_failed_build_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr(Series, "captions", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        tiny().load(None, workers=1)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set NCBENCH_CACHE"):
        tiny().load(None)


def test_two_builders_at_once_both_succeed(cache: Path) -> None:
    code = f"from ncbench.data.scenes.source import Scenes; print(Scenes('tiny', {SIZES}).load(None, workers=1).digest)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] == tiny().load(None).digest
    assert [path.name for path in cache.iterdir()] == ["tiny-2-0"]


def test_the_slower_builder_uses_the_existing_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = store._build

    def overtaken(recipe: store.Recipe, folder: Path, workers: int) -> None:
        build(recipe, folder, workers)
        monkeypatch.setattr(store, "_build", build)
        tiny().load(None, workers=1)

    monkeypatch.setattr(store, "_build", overtaken)
    assert len(tiny().load(None, workers=1).digest) == 64
    assert [path.name for path in cache.iterdir()] == ["tiny-2-0"]


def test_importing_is_light() -> None:
    code = (
        "import sys, ncbench.data.scenes, ncbench.data.scenes.store; "
        "print([name for name in ('torch', 'datasets', 'pyarrow', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_progress_bars_stay_as_they_were(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    before = datasets.utils.are_progress_bars_disabled()
    tiny().load(None, workers=1)
    assert datasets.utils.are_progress_bars_disabled() == before
    assert "Saving" not in capfd.readouterr().err
