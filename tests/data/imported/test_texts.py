"""Texts in the encodings that other programs write: views, dictionaries, byte-order marks, delimiters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rows import make_rows, table_of, write_parquet

from ncbench.data.dataset import Dataset
from ncbench.data.imported.folder import read_folder
from ncbench.data.imported.request import Request, read_request
from ncbench.data.imported.source import Imported
from ncbench.errors import UserError
from ncbench.runtime.files import read_toml

COLUMNS = Request("", "captions", "regions", min_count=1)
MARK = "\ufeff"


def load(path: Path) -> Dataset:
    return Imported(replace(COLUMNS, source=str(path))).load()


def texts(dataset: Dataset) -> list[str]:
    return sorted(text for part in dataset.splits.values() for text in part.captions.texts)


def write_arrow(path: Path, captions: Any) -> Path:
    columns = make_rows(len(captions))
    del columns["captions"]
    table = table_of(columns).append_column("captions", captions)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_one_text_per_row(tmp_path: Path, kind: Any) -> None:
    said = [each[0] for each in make_rows(30)["captions"]]
    plain = pa.array(said, pa.string())
    encoded = plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain.cast(kind)
    assert encoded.type == kind
    assert texts(load(write_arrow(tmp_path / "mine.arrow", encoded))) == sorted(said)


def test_lists_of_views_and_dictionaries(tmp_path: Path) -> None:
    said = make_rows(30)["captions"]
    flat = pa.array([text for each in said for text in each], pa.string())
    offsets = pa.array(range(0, 62, 2), pa.int32())
    wanted = sorted(text for each in said for text in each)
    for name, items in (("views", flat.cast(pa.string_view())), ("dictionaries", flat.dictionary_encode())):
        column = pa.ListArray.from_arrays(offsets, items)
        assert texts(load(write_arrow(tmp_path / f"{name}.arrow", column))) == wanted


def test_a_configuration_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", make_rows(30))
    content = 'source = "rows.parquet"\ncaptions = "captions"\nimage-features = "regions"\n'
    plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
    plain.write_text(content)
    marked.write_text(MARK + content, encoding="utf-8")
    assert read_request(str(marked)) == replace(read_request(str(plain)), name="marked")
    assert read_toml(marked, "config") == read_toml(plain, "config")


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("mark", ["", MARK])
@pytest.mark.parametrize("header", [True, False])
def test_captions_of_pictures(tmp_path: Path, delimiter: str, mark: str, header: bool) -> None:
    rows = [("a.png", "one red dog"), ("b.png", "two; blue, cats | here"), ("a.png", "a dog")]
    if delimiter != "\t":  # as spreadsheets write them
        rows = [(name, f'"{text}"') for name, text in rows]
    if header:
        rows.insert(0, ("image", "caption"))
    file = tmp_path / "captions.csv"
    file.write_bytes((mark + "".join(f"{delimiter.join(row)}\r\n" for row in rows)).encode())
    found = read_folder(tmp_path, Request(str(tmp_path), captions_file=str(file)))
    assert found["train"].names == ["a.png", "b.png"]
    assert found["train"].captions == [["one red dog", "a dog"], ["two; blue, cats | here"]]
    assert found["train"].place(1) == f"{file}:{3 if header else 2}"


def test_an_open_quote_in_captions_of_pictures(tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text('image,caption\na.png,"a dog\nb.png,a cat\n')
    with pytest.raises(UserError, match=r"captions.csv:3: .*; expected picture, ',', caption"):
        read_folder(tmp_path, Request(str(tmp_path), captions_file=str(file)))
