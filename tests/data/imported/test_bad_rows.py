"""Bad rows and files are refused before training, with the file, the row and what is expected."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rows import make_rows, table_of, write_folder, write_parquet

from ncbench.data.dataset import Dataset
from ncbench.data.imported.request import Request
from ncbench.data.imported.source import Imported
from ncbench.errors import UserError

COLUMNS = Request("", "captions", "regions", min_count=1, ids="id")


def refusal(path: Path, **changes: Any) -> str:
    """Return the line with which a dataset is refused."""
    with pytest.raises(UserError) as caught:
        Imported(replace(COLUMNS, source=str(path), **changes)).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(name: str, row: int, value: object) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[name][row] = value

    return change


def in_region(row: int, value: object) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["regions"][row][1][2] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_region(2, math.nan), "quet, row 2: 'regions' contains NaN or infinity"),
        (in_region(140, math.inf), "quet, row 140: 'regions' contains NaN or infinity"),
        (in_region(141, 1e20), "quet, row 141: 'regions' contains a number of size 1e+20, expected finite numbers up"),
        (in_region(3, None), "quet, row 3: missing value (null) in 'regions'"),
        (changed("regions", 4, None), "quet, row 4: missing value (null) in 'regions'"),
        (
            changed("regions", 5, [[1.0] * 6] * 2),
            "others have 3; all rows must have the same shape; if regions vary in number, cut",
        ),
        (changed("regions", 6, [[1.0] * 5] * 3), "quet, row 6: 'regions' has a list of length 5, others have 6"),
        (changed("captions", 7, []), "quet, row 7: no captions in 'captions'"),
        (changed("captions", 8, None), "quet, row 8: no captions in 'captions'"),
        (changed("captions", 9, ["a", " \n"]), "quet, row 9: empty caption in 'captions'"),
        (changed("captions", 10, ["a", None]), "quet, row 10: empty caption in 'captions'"),
        (changed("captions", 11, ["a" * 10_001]), "row 11: a caption in 'captions' has more than 10,000 characters"),
        (changed("id", 12, "0-3"), "quet, row 12: id '0-3' is also used in"),
        (changed("id", 13, None), "quet, row 13: missing value (null) in 'id'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: Callable[[dict[str, list[Any]]], None], message: str) -> None:
    folder, columns = write_folder(tmp_path / "mine"), make_rows(150)
    change(columns)
    write_parquet(folder / "train.parquet", columns)
    assert message in refusal(folder)


def test_an_id_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder, columns = write_folder(tmp_path / "mine"), make_rows(10, 2)
    columns["id"][4] = "0-7"
    write_parquet(folder / "test.parquet", columns)
    assert "test.parquet, row 4: id '0-7' is also used in" in refusal(folder)
    assert "train.parquet, row 7" in refusal(folder)


@pytest.mark.parametrize(
    ("kinds", "columns", "message"),
    [
        ({"regions": pa.list_(pa.string())}, {"regions": [["a"]] * 30}, "'regions' has type list<element: string>,"),
        ({"regions": pa.float32()}, {"regions": [1.0] * 30}, "'regions' has type float, expected a list"),
        (
            {"regions": pa.list_(pa.list_(pa.list_(pa.float32())))},
            {"regions": [[[[1.0]]]] * 30},
            "expected a list of numbers or a list of lists",
        ),
        ({}, {"regions": [[]] * 30}, "'regions' is empty, expected a list of numbers"),
        ({"captions": pa.int64()}, {"captions": [1] * 30}, "'captions' has type int64, expected a string"),
    ],
)
def test_columns_of_other_types(tmp_path: Path, kinds: dict[str, Any], columns: dict[str, Any], message: str) -> None:
    path = write_parquet(tmp_path / "mine.parquet", {**make_rows(30), **columns}, **kinds)
    assert message in refusal(path)


def test_unknown_columns_list_the_existing_ones(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "mine.parquet", make_rows(30))
    assert "has no column 'capt'; found id (string), regions (list<element:" in refusal(path, captions="capt")


def test_captions_that_are_not_utf_8(tmp_path: Path) -> None:
    columns = make_rows(30)
    raw = [b"a red one"] * 29 + [b"caf\xe9"]
    table = table_of({**columns, "captions": raw}, captions=pa.binary())
    spoilt = table.column("captions").combine_chunks().view(pa.string())
    table = table.set_column(table.schema.get_field_index("captions"), "captions", spoilt)
    path = tmp_path / "mine.arrow"
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    said = refusal(path)
    assert "mine.arrow" in said
    assert "UTF8" in said.replace("-", "").upper()
    assert "row 29" in said


def test_regions_that_do_not_divide(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "mine.parquet", make_rows(30))
    said = refusal(path, image_features="vector", regions=4)
    assert "'vector' has 6 numbers, which cannot be split into 4 regions" in said
    assert "'regions' has 3 regions, expected 4" in refusal(path, regions=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("said", 3, [[1.0] * 4]), "row 3: found 1 vectors in 'said' for 2 captions"),
        (changed("said", 4, [[1.0] * 4, [1.0] * 3]), "row 4: 'said' has a list of length 3, others have 4"),
        (
            changed("said", 5, [[1.0] * 4, [1.0, math.nan, 1, 1]]),
            "row 5: 'said' contains NaN or infinity",
        ),
        (changed("said", 6, None), "row 6: missing value (null) in 'said'"),
    ],
)
def test_bad_vectors_of_captions(tmp_path: Path, change: Callable[[dict[str, list[Any]]], None], message: str) -> None:
    columns = make_rows(30)
    change(columns)
    assert message in refusal(write_parquet(tmp_path / "mine.parquet", columns), text_features="said")


def test_one_vector_for_two_captions(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "mine.parquet", make_rows(30))
    said = refusal(path, text_features="vector")
    assert "row 0: found one vector in 'vector' for 2 captions" in said


def test_shapes_that_change_from_batch_to_batch_or_split_to_split(tmp_path: Path) -> None:
    folder, columns = write_folder(tmp_path / "mine"), make_rows(150)
    columns["regions"][128:] = [[[1.0] * 6] * 4] * 22
    write_parquet(folder / "train.parquet", columns)
    assert "row 128 and later rows: found features (4, 6) float32, expected (3, 6) float32" in refusal(folder)
    write_parquet(folder / "train.parquet", make_rows(20, regions=5))
    assert "the same shape in all splits, found train [5, 6] float32, dev [3, 6] float32" in refusal(folder)


def test_truncated_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    path = folder / "dev.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(folder).startswith(f"{path}: cannot be read (")
    assert refusal(folder).endswith("; copy or write it again")
    arrow = tmp_path / "mine.arrow"
    table = table_of(make_rows(30))
    with pa.ipc.new_stream(str(arrow), table.schema) as writer:
        writer.write_table(table)
    arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    assert refusal(arrow).startswith(f"{arrow}: cannot be read (")


def test_a_damaged_saved_dataset(tmp_path: Path) -> None:
    datasets.Dataset(table_of(make_rows(30))).save_to_disk(str(tmp_path / "mine"))
    (file,) = (tmp_path / "mine").glob("*.arrow")
    file.write_bytes(b"nothing")
    assert refusal(tmp_path / "mine").startswith(f"{tmp_path / 'mine'}: cannot be read (")


def test_folders_without_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert "mine: contains no dataset" in refusal(tmp_path / "mine")
    (tmp_path / "mine" / "1.npz").touch()
    assert "one row per image with as many regions each (cut them to one number" in refusal(tmp_path / "mine")
    (tmp_path / "mine" / "1.npz").unlink()
    for name, kind in (("train.csv", "csv"), ("train.jsonl", "json")):
        (tmp_path / "mine" / name).touch()
        remedy = f'convert it with datasets.Dataset.from_{kind}("{name}").to_parquet("train.parquet")'
        assert refusal(tmp_path / "mine").startswith(f"{tmp_path}/mine: contains no dataset")
        assert refusal(tmp_path / "mine").endswith(remedy)
        assert "unknown file type; expected .parquet or .arrow" in refusal(tmp_path / "mine" / name)
        assert refusal(tmp_path / "mine" / name).endswith(remedy)
        (tmp_path / "mine" / name).unlink()


def test_files_without_a_split_next_to_others(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    write_parquet(folder / "more.parquet", make_rows(3))
    assert "more.parquet: belongs to no split" in refusal(folder)


def test_files_with_other_columns(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_parquet(folder / "train-0.parquet", make_rows(30))
    write_parquet(folder / "train-1.parquet", make_rows(30, 1), regions=pa.list_(pa.list_(pa.float64())))
    assert "train-1.parquet: columns or types differ from those of" in refusal(folder)


def test_too_few_rows(tmp_path: Path) -> None:
    assert "1 rows are too few for train" in refusal(write_parquet(tmp_path / "mine.parquet", make_rows(3)))
    folder = write_folder(tmp_path / "other", {"dev": 5, "test": 5})
    assert "cannot tell the training split among dev, test" in refusal(folder)


# Pictures


def png(side: int = 8, shade: int = 0) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(content, "png")
    return content.getvalue()


PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictured(path: Path, row: int, value: object) -> Path:
    """Write 30 rows with pictures; the picture in `row` is `value`."""
    columns = make_rows(30)
    columns["image"] = [{"bytes": png(shade=n), "path": None} for n in range(30)]
    columns["image"][row] = value
    return write_parquet(path, columns, image=PICTURE)


def load(path: Path, **changes: Any) -> Dataset:
    return Imported(replace(COLUMNS, source=str(path), **changes)).load()


def test_pictures_are_stored_with_their_features(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(png(5, 200))
    dataset = load(pictured(tmp_path / "mine.parquet", 3, {"bytes": None, "path": "files/a.png"}))
    assert dataset.pictures is not None
    pictures = [dataset.pictures.picture("train", number) for number in range(24)]
    assert {picture.shape for picture in pictures} == {(8, 8, 3), (5, 5, 3)}
    assert len({int(picture[0, 0, 0]) for picture in pictures}) == 24


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "mine.parquet, row 3: no picture in 'image'"),
        ({"bytes": None, "path": "../away.png"}, "row 3: '../away.png' is outside of"),
        ({"bytes": None, "path": "/etc/passwd"}, "row 3: '/etc/passwd' is outside of"),
        ({"bytes": None, "path": "link/a.png"}, "row 3: 'link/a.png' cannot be read in"),
        ({"bytes": None, "path": "out.png"}, "row 3: 'out.png' is outside of"),
        ({"bytes": None, "path": "none.png"}, "row 3: 'none.png' cannot be read in"),
        ({"bytes": None, "path": "folder"}, "row 3: 'folder' is not a file in"),
        ({"bytes": None, "path": "a\0b"}, "row 3: 'a\\x00b' cannot be read in"),
    ],
)
def test_missing_pictures(tmp_path: Path, value: object, message: str) -> None:
    (tmp_path / "away.png").write_bytes(png())
    folder = tmp_path / "data"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "link")  # a loop
    (folder / "out.png").symlink_to(tmp_path / "away.png")
    assert message in refusal(pictured(folder / "mine.parquet", 3, value))


def test_a_picture_that_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictured(tmp_path / "mine.parquet", 3, {"bytes": png()[:-30], "path": None})
    said = refusal(path, image_features="", images="image")
    assert "mine.parquet, row 3: the picture cannot be decoded (" in said
    dataset = load(path)
    assert dataset.pictures is not None
    number = list(dataset.splits["train"].images.take(np.arange(24))[:, 0, 0]).index(make_rows(30)["vector"][3][0])
    with pytest.raises(UserError, match=r"picture \d+: the picture cannot be decoded"):
        dataset.pictures.picture("train", number)
    monkeypatch.setattr("ncbench.data.imported.pictures.MAX_PIXELS", 63)
    assert "row 0: a picture of 8 x 8 pixels exceeds the limit of 63" in refusal(
        path, image_features="", images="image"
    )


def test_a_column_without_pictures(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "mine.parquet", make_rows(30))
    assert "'id' has type string, expected pictures as bytes" in refusal(path, images="id")
    assert "unknown features 'x'; expected builtin" in refusal(path, image_features="", images="id", features="x")
