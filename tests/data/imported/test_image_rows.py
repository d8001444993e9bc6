"""Tables with a row per caption, and images that repeat."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rows import make_rows, write_folder, write_parquet

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import Dataset
from ncbench.data.imported.request import Request
from ncbench.data.imported.source import Imported
from ncbench.errors import UserError


def flat(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return one row per caption of the rows of `make_rows`."""
    repeated = {name: list(chain.from_iterable(zip(each, each, strict=True))) for name, each in columns.items()}
    for name in ("captions", "said"):
        repeated[name] = list(chain.from_iterable(columns[name]))
    return repeated


def write_flat(path: Path, columns: dict[str, list[Any]]) -> Path:
    return write_parquet(path, flat(columns), captions=pa.string(), said=pa.list_(pa.float32()))


def load(path: Path, **more: Any) -> Dataset:
    return Imported(Request(str(path), "captions", "regions", min_count=1, **more)).load()


@pytest.mark.parametrize("batch", [128, 7, 1])
def test_rows_of_one_id_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr("ncbench.data.imported.tables.BATCH_ROWS", batch)
    lists, rows = write_folder(tmp_path / "lists"), tmp_path / "rows"
    for seed, (split, count) in enumerate({"train": 30, "dev": 8, "test": 10}.items()):
        write_flat(rows / f"{split}.parquet", make_rows(count, seed))
    assert load(rows, ids="id").digest == load(lists).digest
    assert load(rows, ids="id", text_features="said").digest == load(lists, text_features="said").digest


def test_splits_are_drawn_from_images(tmp_path: Path) -> None:
    columns = make_rows(50)
    dataset = load(write_flat(tmp_path / "mine.parquet", columns), ids="id")
    assert {split: len(part.images) for split, part in dataset.splits.items()} == {"train": 40, "dev": 5, "test": 5}
    by_image = {
        np.array(r, np.float32).tobytes(): c for r, c in zip(columns["regions"], columns["captions"], strict=True)
    }
    for part in dataset.splits.values():
        for image, features in enumerate(part.images.take(np.arange(len(part.images)))):
            mine = [part.captions.texts[caption] for caption in np.flatnonzero(part.true == image)]
            assert mine == by_image[features.tobytes()]


def test_repeated_images_are_refused(tmp_path: Path) -> None:
    path = write_flat(tmp_path / "mine.parquet", make_rows(50))
    with pytest.raises(UserError, match=r"images of train repeat an earlier one \(equal features\).*\(ids=COL\)"):
        load(path)


def test_a_few_repeated_images_are_doubted(tmp_path: Path) -> None:
    columns = make_rows(60)
    for row in (3, 7, 9):
        columns["regions"][row] = columns["regions"][0]
    folder = write_folder(tmp_path / "mine")
    write_parquet(folder / "train.parquet", columns)
    with pytest.warns(DataWarning, match="3 of 60 images of train repeat an earlier one"):
        load(folder)


def test_images_of_two_splits_are_doubted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    columns = make_rows(10, 2)
    columns["regions"][4] = make_rows(30, 0)["regions"][8]
    write_parquet(folder / "test.parquet", columns)
    with pytest.warns(DataWarning, match="1 of 10 images of test are also in train"):
        load(folder)


def test_rows_of_one_id_differ(tmp_path: Path) -> None:
    columns = make_rows(30)
    columns["id"][4] = columns["id"][3]
    path = write_parquet(tmp_path / "mine.parquet", columns)
    with pytest.raises(UserError, match="row 4: has the id of the row before, but other features"):
        load(path, ids="id")
    with pytest.raises(UserError, match=r"mine\.parquet, row 0: has no column 'name'; found id \(string\)"):
        load(path, ids="name")
