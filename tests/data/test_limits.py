"""Files that are small and hold, or claim, far too much: refused before their content is in memory."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import make_rows, table_of

from ncbench.cleaning.inputs.found_columns import Columns
from ncbench.cleaning.inputs.opening import open_source
from ncbench.data import captions_file
from ncbench.data.captions_file import read_captions
from ncbench.data.imported import tables
from ncbench.data.imported.arrow import batches
from ncbench.data.imported.request import Request, read_request
from ncbench.data.imported.source import Imported
from ncbench.data.imported.tables import open_tables
from ncbench.data.precomp import open_features
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError
from ncbench.noise.index_files import read_array
from ncbench.runtime import memory

READERS: dict[str, Callable[[Path], object]] = {
    "captions.txt": lambda path: read_captions(path, tabbed=False),
    "vocabulary.json": Vocabulary.read,
    "features.npy": open_features,
    "noise.npy": read_array,
    "set.toml": lambda path: read_request(str(path)),
    **{
        f"pairs{suffix}": lambda path: open_source(str(path), Columns(), None, None, path.parent)
        for suffix in (".csv", ".jsonl", ".npz", ".parquet", ".tar")
    },
}


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)  # opening it would wait for a writer
    assert f"{name}: is a device, a pipe or a socket" in refusal(READERS[name], path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{name}: is a device, a pipe or a socket" in refusal(READERS[name], path)


@pytest.mark.parametrize("name", ["captions.txt", "vocabulary.json", "noise.npy", "set.toml"])
def test_files_read_at_once_have_a_limit(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**40)  # takes no room
    assert f"{name}: has 1,099,511,627,776 bytes, more than the limit of" in refusal(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", ["features.npy", "noise.npy"])
def test_headers_that_claim_more_than_there_is(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        shape = (2**40, 36, 2048) if name == "features.npy" else (2**50,)
        descr = "<f4" if name == "features.npy" else "<i8"
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        file.write(b"\0" * 64)
    assert name in refusal(READERS[name], tmp_path / name)


def test_a_caption_of_absurd_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions_file, "MAX_CAPTION_CHARACTERS", 9)
    path = tmp_path / "captions.txt"
    path.write_text("a red dog\na blue dog\n")
    assert "captions.txt:2: the caption has more than 9 characters" in refusal(READERS["captions.txt"], path)


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_lines_of_absurd_length(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    start = 'image,caption\na.png,"' if name == "pairs.csv" else '{"image": "a.png", "caption": "a dog"}\n"'
    path.write_text(start + "x" * 2**24)
    assert f"{name}:2: the line is longer than the limit of 16,777,216" in refusal(READERS[name], path)


def test_rows_that_unpack_to_too_much(tmp_path: Path) -> None:
    path, columns = tmp_path / "mine.parquet", make_rows(20)
    table = table_of({"captions": columns["captions"], "regions": columns["regions"]})
    wide = pa.ListArray.from_arrays(pa.array(np.arange(21) * 2**19, pa.int32()), pa.nulls(20 * 2**19, pa.float32()))
    pq.write_table(table.append_column("wide", wide), path, compression="zstd")
    assert path.stat().st_size < 2**20
    request = Request(str(path), "captions", "wide", min_count=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncbench.data.imported.tables.MAX_ROW_BYTES", 2**19)
        said = refusal(lambda _: Imported(request).load(), path)
        assert "mine.parquet: rows 0 to 19 unpack to 20,97" in said
        assert " bytes, more than the limit of 524,288 per row; check the file" in said
        assert len(Imported(replace(request, image_features="regions")).load().splits["train"].images) == 16


def test_one_row_of_very_many_equal_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over rows is harmless; the row is not."""
    path, rows = tmp_path / "mine.parquet", 1000
    wide = pa.ListArray.from_arrays(pa.array([0] + rows * [10**7], pa.int32()), pa.nulls(10**7, pa.float32()))
    table = pa.table({"captions": [[f"a dog {n}"] for n in range(rows)], "regions": wide})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(tables, "MAX_UNPACKED", 2**24)
    said = refusal(lambda _: Imported(Request(str(path), "captions", "regions", min_count=1)).load(), path)
    assert "mine.parquet: rows 0 to 999 hold 10,000,999 values of regions.list.element in " in said
    assert said.endswith(" bytes; check the file")


SHARED_TEXTS: dict[str, tuple[Any, Any]] = {
    "text": (pa.string(), lambda text: text),
    "list of texts": (pa.list_(pa.string()), lambda text: [text, text]),
    "picture": (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), lambda text: {"bytes": text.encode()}),
}


@pytest.mark.parametrize("kind", SHARED_TEXTS)
def test_a_text_that_all_rows_of_a_parquet_file_share(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows, size = tmp_path / "mine.parquet", 600, 2**16
    type_, made = SHARED_TEXTS[kind]
    table = pa.table({"number": range(rows), "shared": pa.array([made("a" * size)] * rows, type_)})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**20)
    assert path.stat().st_size < 2**14
    (file,) = open_tables(Request(str(path))).values()
    read = pa.Table.from_batches(file.batches(["shared", "number"]))
    assert read.select(["number", "shared"]).equals(table)

    for module in (tables, batches):
        monkeypatch.setattr(module, "MAX_UNPACKED", 2**25)
    assert pa.Table.from_batches(file.batches(["shared", "number"])).equals(read)
    for module in (tables, batches):
        monkeypatch.setattr(module, "MAX_UNPACKED", 2**22)
    memory.reset_peak()
    before = memory.peak_bytes() or 0
    said = refusal(lambda _: list(file.batches(["shared"])), path)
    assert f"mine.parquet, rows 0 to {tables.BATCH_ROWS - 1}: have " in said
    assert "bytes, more than the limit of 4,194,304 for a batch; check the file" in said
    assert (memory.peak_bytes() or 0) - before < 2**22


def test_members_of_shards(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tar"
    with path.open("wb") as file:
        member = tarfile.TarInfo("a.jpg")
        member.size = 2**33
        file.write(member.tobuf())
        file.truncate(2**33 + 2**20)  # takes no room
    assert "pairs.tar: 'a.jpg' has 8,589,934,592 bytes, more than the limit of" in refusal(READERS["pairs.tar"], path)
