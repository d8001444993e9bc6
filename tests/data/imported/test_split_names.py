"""Splits by the names of files and folders, against `datasets`."""

from __future__ import annotations

from pathlib import Path

import datasets
import datasets.data_files
import pytest
from rows import make_rows, table_of, write_parquet

from ncbench.data.data_warning import DataWarning
from ncbench.data.imported.request import Request
from ncbench.data.imported.source import Imported
from ncbench.data.imported.split_names import SPLIT_NAMES, files_below, files_by_split, split_of
from ncbench.errors import UserError

COUNTS = {"train": 30, "dev": 8, "test": 10}


def sizes_of(root: Path) -> dict[str, int]:
    """Return the images of each split that ncbench makes of a folder."""
    dataset = Imported(Request(str(root), "captions", "regions", min_count=1)).load()
    return {split: len(part.images) for split, part in dataset.splits.items()}


def write(root: Path, names: list[str], counts: dict[str, int] = COUNTS) -> Path:
    """Write one parquet file for each of `counts` to `names` below `root`."""
    for seed, (name, count) in enumerate(zip(names, counts.values(), strict=True)):
        write_parquet(root / name, make_rows(count, seed))
    return root


LAYOUTS = [
    ["train.parquet", "validation.parquet", "test.parquet"],
    ["my_train.parquet", "my_val.parquet", "my_test.parquet"],
    ["my-training.parquet", "my.dev.parquet", "2 testing.parquet"],
    ["train2014.parquet", "val2014.parquet", "eval2014.parquet"],
    ["train/0000.parquet", "validation/0000.parquet", "test/0000.parquet"],
    ["default/train/0.parquet", "default/valid/0.parquet", "default/evaluation/0.parquet"],
    ["data/train-00000-of-00001.parquet", "data/dev-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
]


@pytest.mark.parametrize("names", LAYOUTS)
def test_splits_are_those_of_datasets(tmp_path: Path, names: list[str]) -> None:
    root = write(tmp_path / "mine", names)
    theirs = datasets.data_files.get_data_patterns(str(root))
    found = {str(split): datasets.data_files.DataFilesList.from_patterns(p, str(root)) for split, p in theirs.items()}
    assert {len(files) for files in found.values()} == {1}
    ours = files_by_split(root, files_below(root, [".parquet"]))
    of = {"train": "train", "dev": "validation", "test": "test"}
    assert {of[str(split_of(word))]: [str(file) for file in files] for word, files in ours.items()} == {
        split.split("-")[0].replace("dev", "validation"): list(files) for split, files in found.items()
    }
    assert sizes_of(root) == COUNTS


@pytest.mark.parametrize(
    "names",
    [
        ["Train.parquet", "Validation.parquet", "Test.parquet"],
        ["MyTrain.parquet", "MyVal.parquet", "MyTest.parquet"],
        ["TRAIN.PARQUET", "DEV.PARQUET", "TEST.PARQUET"],
        ["Train/a.parquet", "Val/b.parquet", "TEST/c.parquet"],
    ],
)
def test_capitals_do_not_matter(tmp_path: Path, names: list[str]) -> None:
    assert sizes_of(write(tmp_path / "mine", names)) == COUNTS


def test_the_words_are_those_of_datasets() -> None:
    theirs = {str(split): set(words) for split, words in datasets.data_files.SPLIT_KEYWORDS.items()}
    assert {
        "train": set(SPLIT_NAMES["train"]),
        "validation": set(SPLIT_NAMES["dev"]),
        "test": set(SPLIT_NAMES["test"]),
    } == (theirs)


def test_restval_belongs_to_train(tmp_path: Path) -> None:
    names = ["train.parquet", "restval.parquet", "val.parquet", "test.parquet"]
    root = write(tmp_path / "mine", names, {"train": 30, "restval": 5, "dev": 8, "test": 10})
    assert sizes_of(root) == {"train": 35, "dev": 8, "test": 10}


def test_splits_of_a_saved_dataset(tmp_path: Path) -> None:
    parts = {"my_Train": make_rows(30, 0), "Validation": make_rows(8, 1), "evaluation": make_rows(10, 2)}
    saved = datasets.DatasetDict({name: datasets.Dataset(table_of(rows)) for name, rows in parts.items()})
    saved.save_to_disk(str(tmp_path / "mine"))
    assert sizes_of(tmp_path / "mine") == COUNTS
    saved["unlabelled"] = saved["Validation"]
    saved.save_to_disk(str(tmp_path / "more"))
    with pytest.warns(DataWarning, match="the rows of 'unlabelled' are not used"):
        assert sizes_of(tmp_path / "more") == COUNTS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.parquet", "val.parquet", "extra.parquet"], r"extra\.parquet: belongs to no split, but .* train, val"),
        (["train.parquet", "val.parquet", "test_train.parquet"], "'test_train' names the splits test and train"),
        (["train/a.parquet", "train/val.parquet", "test.parquet"], "its name says val, its folder train"),
        (["ftrain.parquet", "fval.parquet", "ftest.parquet"], r"ftest\.parquet: cannot tell its split"),
        (["train.parquet", "val.parquet", "dev.parquet"], "dev, val could all be dev"),
        (["train.parquet", "testA.parquet", "test/b.parquet"], ""),
    ],
)
def test_doubtful_names_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    root = write(tmp_path / "mine", names)
    if not message:
        assert sizes_of(root) == {"train": 27, "dev": 3, "test": 18}
        return
    with pytest.raises(UserError, match=message):
        sizes_of(root)


def test_names_that_tell_nothing_are_doubted(tmp_path: Path) -> None:
    root = write(tmp_path / "mine", ["tr.parquet", "va.parquet", "te.parquet"])
    with pytest.warns(
        DataWarning, match=r"no file names a split \(te.parquet, tr.parquet, va.parquet\), so all rows are"
    ):
        assert sizes_of(root) == {"train": 40, "dev": 4, "test": 4}
    assert sizes_of(write(tmp_path / "parts", ["0.parquet", "1.parquet", "2.parquet"])) == {
        "train": 40,
        "dev": 4,
        "test": 4,
    }, "the parts of one file"
