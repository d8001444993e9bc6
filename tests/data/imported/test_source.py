"""Imported datasets, read through the local store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from places import SHARED
from rows import make_rows, table_of, write_folder, write_parquet

from ncbench.data.dataset import Dataset, Split
from ncbench.data.imported import reading
from ncbench.data.imported.local_store import stored_datasets
from ncbench.data.imported.reading import read
from ncbench.data.imported.request import Request
from ncbench.data.imported.source import Imported
from ncbench.data.registry import check_dataset, dataset_source, load_dataset, load_recorded
from ncbench.errors import UserError

COLUMNS = Request("", "captions", "regions", min_count=1)


def load(path: Path, **changes: object) -> Dataset:
    return Imported(replace(COLUMNS, source=str(path), **changes)).load()  # type: ignore[arg-type]


def features(split: Split) -> np.ndarray:
    return split.images.take(np.arange(len(split.images)))


def assert_holds(split: Split, columns: dict[str, list[object]]) -> None:
    """Check a split against its source rows."""
    np.testing.assert_array_equal(features(split), np.array(columns["regions"], np.float32))
    assert split.captions.texts == [caption for captions in columns["captions"] for caption in captions]
    np.testing.assert_array_equal(split.true, np.repeat(np.arange(len(columns["captions"])), 2))


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    dataset = load(write_folder(tmp_path / "mine"))
    assert (dataset.name, dataset.truth_known, dataset.n_regions, dataset.image_dim) == ("mine", True, 3, 6)
    assert (dataset.vector_dim, dataset.pictures, dataset.presets, dataset.batch_size) == (0, None, "scenes", 128)
    for seed, (split, count) in enumerate({"train": 30, "dev": 8, "test": 10}.items()):
        assert_holds(dataset.splits[split], make_rows(count, seed))
    tokens, lengths = dataset.splits["test"].captions.padded(np.arange(2))
    assert tokens.dtype == np.int64
    assert lengths.tolist() == [5, 5]
    words = [dataset.vocabulary.words[token] for token in tokens[0]]
    assert words == ["<start>", *dataset.splits["test"].captions.texts[0].split(), "<end>"]


def write(kind: str, folder: Path) -> Path:
    """Write the same three splits in one of the supported formats."""
    whole = write_folder(folder / "plain")
    parts = {split: make_rows(count, seed) for seed, (split, count) in enumerate(SIZES.items())}
    if kind == "hub layout":
        (folder / "mine" / "data").mkdir(parents=True)
        for split in SIZES:
            half = SIZES[split] // 2
            for number, rows in enumerate((slice(0, half), slice(half, None))):
                columns = {name: values[rows] for name, values in parts[split].items()}
                name = {"dev": "validation"}.get(split, split)
                write_parquet(folder / "mine" / "data" / f"{name}-0000{number}-of-00002.parquet", columns)
    elif kind == "saved":
        saved = {split: datasets.Dataset(table_of(columns)) for split, columns in parts.items()}
        datasets.DatasetDict(saved).save_to_disk(str(folder / "mine"))
    elif kind in ("stream", "file"):
        (folder / "mine").mkdir()
        opened = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        for split, columns in parts.items():
            table = table_of(columns)
            with opened(str(folder / "mine" / f"{split}.arrow"), table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
    else:
        whole.rename(folder / "mine")
    return folder / "mine"


SIZES = {"train": 30, "dev": 8, "test": 10}


@pytest.mark.parametrize("kind", ["hub layout", "saved", "stream", "file"])
def test_every_form_gives_the_same_content(tmp_path: Path, kind: str) -> None:
    dataset = load(write(kind, tmp_path))
    assert dataset.digest == load(tmp_path / "plain").digest


def test_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "mine")
    digest = load(folder).digest
    monkeypatch.setattr("ncbench.data.imported.tables.BATCH_ROWS", 7)
    assert load(folder, name="again").digest == digest


def test_a_name_on_the_hub_goes_to_its_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def hub(*words: object, **more: object) -> datasets.DatasetDict:
        asked.append((*words, more))
        parts = {"train": make_rows(30, 0), "validation": make_rows(8, 1), "test": make_rows(10, 2)}
        return datasets.DatasetDict({split: datasets.Dataset(table_of(rows)) for split, rows in parts.items()})

    monkeypatch.setattr(datasets, "load_dataset", hub)
    dataset = load(Path("owner/mine"), configuration="small", revision="abc")
    assert dataset.digest == load(write_folder(tmp_path / "mine"), name="other").digest
    assert load(Path("owner/mine"), configuration="small", revision="abc").digest == dataset.digest
    assert asked == [("owner/mine", "small", {"revision": "abc"})], "converted once"


def test_the_hub_may_be_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def hub(*words: object, **more: object) -> object:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", hub)
    with pytest.raises(UserError, match=r"^hf:owner/mine: no such file .* \(no network\)$"):
        load(Path("owner/mine"))


def test_missing_splits_are_drawn_from_train(tmp_path: Path) -> None:
    columns = make_rows(50)
    dataset = load(write_parquet(tmp_path / "mine.parquet", columns))
    sizes = {split: len(part.images) for split, part in dataset.splits.items()}
    assert sizes == {"train": 40, "dev": 5, "test": 5}
    rows = [tuple(row) for row in np.array(columns["vector"], np.float32)]
    places = {s: [rows.index(tuple(row)) for row in features(part)[:, 0]] for s, part in dataset.splits.items()}
    assert sorted(row for each in places.values() for row in each) == list(range(50))
    assert all(each == sorted(each) for each in places.values()), "the order of the source stays"
    assert places["dev"] != [0, 1, 2, 3, 4]
    again = load(tmp_path / "mine.parquet", name="again")
    assert again.digest == dataset.digest
    manifest = json.loads(
        (Imported(replace(COLUMNS, source=str(tmp_path / "mine.parquet"))).folder() / "manifest.json").read_text()
    )
    assert manifest["drawn"] == ["dev", "test"]


def test_no_more_than_a_thousand_are_drawn(tmp_path: Path) -> None:
    columns = {"vector": [[float(n)] for n in range(20_000)], "captions": ["a b"] * 20_000}
    path = write_parquet(tmp_path / "mine.parquet", columns, captions=pa.string())
    dataset = load(path, image_features="vector")
    assert [len(dataset.splits[split].images) for split in ("train", "dev", "test")] == [18_000, 1_000, 1_000]
    assert (dataset.n_regions, dataset.image_dim, dataset.presets) == (1, 1, "scenes")


def test_stated_splits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", {"train": 30, "val": 8, "test": 10})
    dataset = load(folder, splits={"dev": "test", "test": "val"})
    assert_holds(dataset.splits["dev"], make_rows(10, 2))
    assert_holds(dataset.splits["test"], make_rows(8, 1))
    with pytest.raises(UserError, match="no split 'vla' for dev; found test, train, val"):
        load(folder, splits={"dev": "vla"})


def test_large_sets_take_the_published_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "mine")
    assert load(folder, like="f30k", name="like").scale["embed"] == 1024
    monkeypatch.setattr(reading, "MIN_LARGE_CAPTIONS", 60)
    dataset = load(folder)
    assert (dataset.scale["embed"], dataset.batch_size, dataset.presets) == (1024, 128, "f30k")


def test_half_precision_stays(tmp_path: Path) -> None:
    columns = make_rows(30, dtype=np.float16)
    half = pa.list_(pa.list_(pa.float16()))
    dataset = load(write_parquet(tmp_path / "mine.parquet", columns, regions=half))
    ((chunk,),) = (dataset.splits["train"].images._chunks,)
    assert chunk.dtype == np.float16
    assert features(dataset.splits["train"]).dtype == np.float32


def test_flat_regions_are_split(tmp_path: Path) -> None:
    columns = make_rows(30)
    flat = {**columns, "vector": [[n for region in row for n in region] for row in columns["regions"]]}
    path = write_parquet(tmp_path / "mine.parquet", flat)
    assert load(path, image_features="vector", regions=3).digest == load(path, name="other").digest


def test_captions_as_vectors(tmp_path: Path) -> None:
    dataset = load(write_folder(tmp_path / "mine"), text_features="said")
    assert dataset.vector_dim == 4
    assert len(dataset.vocabulary) == 4
    vectors, lengths = dataset.splits["dev"].captions.padded(np.array([5, 0]))
    said = np.array(make_rows(8, 1)["said"], np.float32).reshape(16, 4)
    np.testing.assert_array_equal(vectors, said[[5, 0]])
    assert lengths.tolist() == [1, 1]
    assert dataset.digest != load(tmp_path / "mine", name="other").digest


def test_a_caption_with_one_vector(tmp_path: Path) -> None:
    columns = make_rows(30)
    columns["captions"] = [captions[0] for captions in columns["captions"]]
    path = write_parquet(tmp_path / "mine.parquet", columns, captions=pa.string())
    assert load(path, text_features="vector").vector_dim == 6


def test_a_stated_vocabulary(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    vocabulary = load(folder).vocabulary
    vocabulary.write(tmp_path / "words.json")
    assert load(folder, name="b", vocabulary=str(tmp_path / "words.json"), min_count=99).vocabulary == vocabulary
    assert len(load(folder, name="c", min_count=99).vocabulary) == 4
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        load(folder, vocabulary=str(tmp_path / "none.json"))


# The store


def test_a_source_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "mine")
    digest = load(folder).digest
    monkeypatch.setattr("ncbench.data.imported.convert.convert", None)
    assert load(folder).digest == digest
    assert load_dataset("mine", None).digest == digest
    assert load_dataset(f"mine@{digest[:8]}", None).name == "mine"
    assert [path.name for path in (cache / "imported").iterdir()] == ["mine"]


def test_a_changed_source_is_read_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    before = load(folder).digest
    write_parquet(folder / "test.parquet", make_rows(10, 9))
    after = load(folder).digest
    assert before != after
    with pytest.raises(
        UserError, match=rf"2 datasets in the local store are named 'mine'; use one of .*mine@.*{after[:8]}"
    ):
        load_dataset("mine", None)
    assert load_recorded("mine", "1", before, None).digest == before
    assert load_dataset(f"mine@{after}", None).digest == after


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    write_parquet(folder / "test.parquet", {**make_rows(10), "captions": [["a"]] * 9 + [[]]})
    with pytest.raises(UserError, match=r"test\.parquet, row 9: no captions in 'captions'"):
        load(folder)
    assert not list((cache / "imported" / "mine").iterdir())


@pytest.mark.parametrize(
    "name", ["train/features.npy", "test/true.npy", "dev/captions.jsonl", "manifest.json", "vocabulary.json"]
)
def test_a_damaged_store_is_named(tmp_path: Path, name: str) -> None:
    load(write_folder(tmp_path / "mine"))
    (one,) = stored_datasets()
    path = one.folder / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"damaged|vocabulary\.json"):
        read(one.folder)


def test_other_folders_in_the_store_are_ignored(tmp_path: Path, cache: Path) -> None:
    load(write_folder(tmp_path / "mine"))
    (one,) = stored_datasets()
    for name, content in {
        "mine/a": b"{",
        "mine/b": b"[]",
        "other/c": (one.folder / "manifest.json").read_bytes(),
    }.items():
        (cache / "imported" / name).mkdir(parents=True)
        (cache / "imported" / name / "manifest.json").write_bytes(content)
    assert stored_datasets() == [one]


def test_names_of_registered_datasets_are_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "scenes")
    with pytest.raises(UserError, match="dataset 'scenes' has the name of a registered dataset"):
        check_dataset(f"hf:{folder}?image-features=regions&captions=captions")
    check_dataset(f"hf:{folder}?image-features=regions&captions=captions&name=mine")


def test_names_are_looked_up_in_the_store(tmp_path: Path) -> None:
    load(write_folder(tmp_path / "mine"))
    check_dataset("mine")
    assert not dataset_source("mine").needs_root
    with pytest.raises(UserError, match=r"unknown dataset 'minne'\. Did you mean 'mine'"):
        check_dataset("minne")


# Real data, where available

real = pytest.mark.skipif(
    not (SHARED / "data" / "photos").is_dir(), reason="photos not found; set NCBENCH_SHARED to the folder with data/"
)


@real
def test_photos() -> None:
    dataset = load(SHARED / "data" / "photos", ids="image_id")
    assert {split: len(part.images) for split, part in dataset.splits.items()} == {
        "train": 700,
        "dev": 100,
        "test": 200,
    }
    assert (dataset.n_regions, dataset.image_dim, len(dataset.splits["test"].captions)) == (16, 1024, 1000)
    assert dataset.splits["train"].captions.texts[0].startswith("A child in a pink dress is climbing")


@real
@pytest.mark.filterwarnings("ignore::ncbench.data.tokenise.TokenisationWarning")
def test_icons_have_pictures() -> None:
    dataset = load(SHARED / "data" / "icons", image_features="image_features", ids="image_id")
    sizes = {split: len(part.images) for split, part in dataset.splits.items()}
    assert sizes == {"train": 11_538, "dev": 501, "test": 1_000}
    assert (dataset.n_regions, dataset.image_dim) == (1, 1024)
    assert dataset.pictures is not None
    assert dataset.pictures.picture("test", 999).shape == (64, 64, 3)
    assert not np.array_equal(dataset.pictures.picture("test", 0), dataset.pictures.picture("test", 1))


def test_a_folder_that_moves_keeps_its_digest(tmp_path: Path) -> None:
    digest = load(write_folder(tmp_path / "mine")).digest
    shutil.copytree(tmp_path / "mine", tmp_path / "away" / "mine")
    assert load(tmp_path / "away" / "mine").digest == digest
