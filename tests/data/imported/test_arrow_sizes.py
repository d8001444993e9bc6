"""Arrow files that are small and unpack to, or claim, far too much: refused before their content is in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import make_rows, table_of

from ncbench.cleaning.inputs.found_columns import Columns
from ncbench.cleaning.inputs.opening import open_source
from ncbench.data.imported.arrow import batches, messages
from ncbench.data.imported.arrow.batches import check_batch
from ncbench.data.imported.arrow.messages import count_rows
from ncbench.data.imported.request import Request
from ncbench.data.imported.source import Imported
from ncbench.data.imported.tables import open_tables
from ncbench.errors import UserError
from ncbench.runtime import memory

LARGE = 2**20


def write(path: Path, table: Any, compression: str | None, kind: Any = pa.ipc.new_stream, rows: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, kind(file, table.schema, options=options) as writer:
        writer.write_table(table, rows)
    return path


def wide(rows: int, numbers: int) -> Any:
    """Return rows of captions and of many zeros, which compress to nearly nothing."""
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * numbers, np.float32)), numbers)
    return table_of({"captions": make_rows(rows)["captions"]}).append_column("wide", zeros)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (messages, batches):
        monkeypatch.setattr(module, "MAX_UNPACKED", LARGE)


@pytest.mark.parametrize("kind", [pa.ipc.new_stream, pa.ipc.new_file])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_rows_are_counted_without_reading_them(tmp_path: Path, kind: Any, compression: str | None) -> None:
    table = wide(25, 100)
    path = write(tmp_path / "a.arrow", table, compression, kind)
    assert count_rows(path) == 25
    (found,) = open_tables(Request(str(path))).values()
    assert pa.Table.from_batches(found.batches(["captions", "wide"])).equals(table)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("kind", [pa.ipc.new_stream, pa.ipc.new_file])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_batches_that_unpack_to_too_much(tmp_path: Path, kind: Any, compression: str) -> None:
    path = write(tmp_path / "a.arrow", wide(25, LARGE // 4 // 10), compression, kind)
    assert path.stat().st_size < LARGE / 20
    said = refusal(lambda: Imported(Request(str(path), "captions", "wide")).load())
    assert "a.arrow: rows 0 to 9 unpack to 1,0" in said
    assert "more than the limit of 1,048,576 for a batch; write it with smaller batches, or check the file" in said
    assert "rows 0 to 9 unpack" in refusal(lambda: open_source(str(path), Columns(), None, None, tmp_path))


def test_the_size_is_that_of_all_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"n": np.arange(10_000.0), "m": np.zeros(10_000, np.int8)})
    path = write(tmp_path / "a.arrow", table, "zstd", rows=10_000)
    monkeypatch.setattr(messages, "MAX_UNPACKED", 90_000)  # of 8 bytes and 1
    assert count_rows(path) == 10_000
    monkeypatch.setattr(messages, "MAX_UNPACKED", 89_999)
    assert "unpack to 90,000 bytes" in refusal(lambda: count_rows(path))


@pytest.mark.usefixtures("small_limit")
def test_dictionaries_that_unpack_to_too_much(tmp_path: Path) -> None:
    texts = pa.array([f"{number}{'a' * LARGE}" for number in range(3)])
    table = pa.table({"captions": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2] * 5, pa.int8()), texts)})
    said = refusal(lambda: count_rows(write(tmp_path / "a.arrow", table, "zstd")))
    assert "a.arrow: its dictionaries unpack to 3,14" in said


def test_a_batch_of_gigabytes_in_a_few_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", wide(1, 2**20), "zstd")
    content = bytearray(path.read_bytes())
    stated = (2**22).to_bytes(8, "little")
    assert (
        content.count(stated) == 1 or content.count(stated) == 2
    )  # that of the buffer, and the body's length if equal
    at = content.rindex(stated)
    content[at : at + 8] = (2**50).to_bytes(8, "little")
    path.write_bytes(content)
    memory.reset_peak()
    before = memory.peak_bytes() or 0
    assert "rows 0 to 0 unpack to 1,125,899,90" in refusal(lambda: open_tables(Request(str(path))))
    assert (memory.peak_bytes() or 0) - before < 2**26


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_more_rows_than_bytes(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"a{suffix}", pa.table({"nothing": pa.nulls(10**6)})
    if suffix == ".arrow":
        write(path, table, None, rows=10**6)
    else:
        pq.write_table(table, path)
    said = refusal(lambda: open_tables(Request(str(path))))
    assert f"{path}: claims 1,000,000 rows in {path.stat().st_size:,} bytes; check the file" in said


def test_a_footer_of_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with path.open("wb") as file:
        file.write(b"PAR1")
        file.truncate(2**33)  # takes no room
        file.seek(0, 2)
        file.write((2**31).to_bytes(4, "little") + b"PAR1")
    said = refusal(lambda: open_tables(Request(str(path))))
    assert "a.parquet: its footer has 2,147,483,648 bytes, more than the limit of 268,435,456" in said


def test_folders_as_on_the_hub_may_claim_what_they_like(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(wide(20, 3), tmp_path / "data" / "train-00000-of-00001.parquet")
    claims = {"default": {"dataset_size": 2**60, "splits": {"train": {"num_bytes": 2**60, "num_examples": 2**50}}}}
    (tmp_path / "dataset_infos.json").write_text(json.dumps(claims))
    (tmp_path / "README.md").write_text("---\ndataset_info:\n  dataset_size: 1152921504606846976\n---\n")
    os.truncate(tmp_path / "README.md", 2**40)
    (table,) = open_tables(Request(str(tmp_path))).values()
    assert table.n_rows == sum(batch.num_rows for batch in table.batches(["captions"])) == 20


SHARED: dict[str, Callable[[str], Any]] = {
    "dictionary": lambda text: pa.array([text] * 20).dictionary_encode(),
    "list of dictionary": lambda text: pa.ListArray.from_arrays(range(0, 21, 5), SHARED["dictionary"](text)),
    "view": lambda text: pa.array([text] * 20, pa.string_view()),
    "struct of view": lambda text: pa.array([{"a": text}] * 20, pa.struct([("a", pa.string_view())])),
    "run": lambda text: pa.RunEndEncodedArray.from_arrays([20], [text]),
    "dictionary of lists": lambda text: pa.DictionaryArray.from_arrays([0] * 20, pa.array([[text]])),
}


@pytest.mark.parametrize("kind", SHARED)
def test_a_text_that_many_cells_share(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = SHARED[kind]("a" * 1000)
    batch = pa.record_batch({"shared": array})
    monkeypatch.setattr(batches, "MAX_UNPACKED", 20_500)
    check_batch(batch, 0, "a.arrow")
    monkeypatch.setattr(batches, "MAX_UNPACKED", 19_900)
    said = refusal(lambda: check_batch(batch, 7, "a.arrow"))
    assert f"a.arrow, rows 7 to {6 + len(array)}: have 20," in said
    assert " bytes, more than the limit of 19,900 for a batch; check the file" in said


def test_views_and_slices_are_measured_without_what_they_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_UNPACKED", 150)
    texts = ["a" * 1000, "b" * 50, None, "c" * 1000]
    for kind in (pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        check_batch(pa.record_batch({"t": pa.array(texts, kind)}).slice(1, 2), 0, "a.arrow")
    plain = pa.array([[1.0] * 1000, [1.0] * 10])
    check_batch(pa.record_batch({"t": plain}).slice(1), 0, "a.arrow")
    assert "have" in refusal(lambda: check_batch(pa.record_batch({"t": plain}), 0, "a.arrow"))


def saved(folder: Path, splits: bool = False) -> Path:
    one = datasets.Dataset.from_dict(make_rows(30))
    (datasets.DatasetDict({"train": one, "test": one}) if splits else one).save_to_disk(str(folder))
    return folder


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("splits", [False, True])
def test_saved_folders_with_a_bomb(tmp_path: Path, splits: bool) -> None:
    folder = saved(tmp_path / "saved", splits)
    assert {table.n_rows for table in open_tables(Request(str(folder))).values()} == {30}
    (file,) = (folder / "test" if splits else folder).glob("*.arrow")
    write(file, wide(25, LARGE // 4 // 10), "zstd")
    assert f"{file}: rows 0 to 9 unpack to 1,0" in refusal(lambda: open_tables(Request(str(folder))))
    assert "rows 0 to 9 unpack to 1,0" in refusal(lambda: open_source(str(folder), Columns(), None, None, tmp_path))


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "dataset_dict.json"])
def test_saved_folders_of_absurd_description(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "saved", splits=name == "dataset_dict.json")
    os.truncate(folder / name, 2**40)  # takes no room
    said = refusal(lambda: open_tables(Request(str(folder))))
    assert f"{name}: has 1,099,511,627,776 bytes, more than the limit of 67,108,864" in said


def test_saved_folders_that_refer_elsewhere(tmp_path: Path) -> None:
    folder, other = saved(tmp_path / "saved"), saved(tmp_path / "other")
    (file,) = other.glob("*.arrow")
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": f"../other/{file.name}"}]
    (folder / "state.json").write_text(json.dumps(state))
    assert "which is not in the folder; save the dataset again" in refusal(lambda: open_tables(Request(str(folder))))


@pytest.mark.parametrize("content", ["{", "[]", '{"_data_files": 3}', "[" * 10**5])
def test_saved_folders_that_are_damaged(tmp_path: Path, content: str) -> None:
    folder = saved(tmp_path / "saved")
    (folder / "state.json").write_text(content)
    assert f"{folder}: cannot be read (" in refusal(lambda: open_tables(Request(str(folder))))
