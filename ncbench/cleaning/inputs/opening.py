"""Opening what the user names: one file, a folder, or a name on the hub."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ncbench.cleaning.inputs.arrays_file import ArraysFile
from ncbench.cleaning.inputs.found_columns import Columns, find_columns
from ncbench.cleaning.inputs.text_tables import (
    DELIMITED,
    JSON_LINES,
    PICTURE_SUFFIXES,
    Delimited,
    JsonLines,
    looks_like_picture,
)
from ncbench.data.cache import cache_root
from ncbench.data.dataset import IntVector
from ncbench.data.imported.pictures import MAX_BYTES
from ncbench.data.imported.request import PREFIX, Request
from ncbench.data.imported.tables import Files, Saved, Table, open_tables, reading
from ncbench.data.stamps import Stamp, stamp
from ncbench.errors import UserError
from ncbench.runtime.input_files import check_input_file

TABLE_SUFFIXES = (*DELIMITED, *JSON_LINES)
ARROW_SUFFIXES = (".parquet", ".arrow")


@dataclass(frozen=True)
class Source:
    """All rows of an input: of one table after the other, which have the same columns.

    `labels` name the file or split of each table, `root` is the folder that picture files are in, `files` must not
    change while the source is in use, and `reading_as` says what was taken for what.
    """

    name: str
    tables: Sequence[Table]
    labels: Sequence[str]
    columns: Columns
    root: Path | None
    files: tuple[Stamp, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(table.n_rows for table in self.tables)]

    @property
    def schema(self) -> Any:
        """Names and types of the columns."""
        return self.tables[0].schema

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """Yield the number of its first row, and a batch, for all rows of `columns`."""
        first = 0
        for table in self.tables:
            for batch in table.batches(columns):
                yield first, batch
                first += batch.num_rows

    def source_row(self, row: int) -> tuple[str, int]:
        """Return the file or split that a row comes from, and its number there, from 0."""
        number = bisect_right(self._starts, row) - 1
        label, _, place = self.tables[number].place(row - self._starts[number]).rpartition(", row ")
        return label, int(place)

    def source_rows(self) -> tuple[list[str], IntVector]:
        """Return what `source_row` returns, for all rows."""
        labels, numbers, known = list[str](), np.empty(self.n_rows, np.int64), dict[str, str]()
        for row in range(self.n_rows):
            label, numbers[row] = self.source_row(row)
            labels.append(known.setdefault(label, label))
        return labels, numbers

    def place(self, row: int) -> str:
        """Return the location of a row, for messages."""
        label, number = self.source_row(row)
        return f"{label}, row {number}"


def open_source(text: str, given: Columns, captions_file: Path | None, pictures: Path | None, folder: Path) -> Source:
    """Return the rows of `text`; files are unpacked into `folder` if necessary.

    `captions_file` is the table that belongs to a folder of pictures, `pictures` the folder that paths of pictures are
    relative to, if it is not that of the table. Raises UserError if it is none of the known kinds.
    """
    path = Path(text.removeprefix(PREFIX)).expanduser()
    if captions_file is not None and not path.is_dir():
        raise UserError(f"--captions-file {captions_file} belongs to a folder of pictures, but {path} is none")
    if not path.exists():
        if not text.startswith(PREFIX):
            raise UserError(f"{path}: no such file or folder; use {PREFIX}NAME for a dataset on the hub")
        tables, root = dict(open_tables(Request(text.removeprefix(PREFIX)))), None
    elif path.is_dir():
        tables, root = _of_folder(path, captions_file)
    else:
        tables, root = _of_file(path, folder), path.parent
    tables = {label: table for label, table in tables.items() if table.n_rows}
    if not tables:
        raise UserError(f"{path}: contains no rows")
    labels, parts = list(tables), list(tables.values())
    for label, table in tables.items():
        if not table.schema.equals(parts[0].schema):
            raise UserError(f"{label}: columns or types differ from those of {labels[0]}; clean them one by one")
    columns = find_columns(parts[0], given, str(path))
    return Source(text, parts, labels, columns, pictures or root, stamp(_files(path, captions_file)))


def _of_file(path: Path, folder: Path) -> dict[str, Table]:
    check_input_file(path)
    if path.suffix in DELIMITED:
        return {str(path): Delimited(path)}
    if path.suffix in JSON_LINES:
        return {str(path): JsonLines(path)}
    if path.suffix == ".npz":
        return {str(path): ArraysFile(path, folder)}
    if path.suffix in ARROW_SUFFIXES:
        return {str(path): Files([path])}
    if path.suffix == ".tar":
        return _shards([path])
    known = ", ".join((*TABLE_SUFFIXES, *ARROW_SUFFIXES, ".npz", ".tar"))
    raise UserError(f"{path}: unknown file type; expected {known}, or a folder")


def _of_folder(path: Path, captions_file: Path | None) -> tuple[dict[str, Table], Path]:
    if captions_file is not None:
        if captions_file.suffix not in TABLE_SUFFIXES:
            raise UserError(f"--captions-file {captions_file}: expected a file {', '.join(TABLE_SUFFIXES)}")
        return _of_file(_existing(captions_file), path), path
    listed = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    shards = [file for file in listed if file.suffix == ".tar"]
    if shards:
        return _shards(shards), path
    tables = [file for file in listed if file.suffix in TABLE_SUFFIXES]
    if len(tables) == 1:
        return _of_file(tables[0], path), path
    if len(tables) > 1:
        raise UserError(
            f"{path}: has {len(tables)} tables, {', '.join(file.name for file in tables[:5])}; "
            "name the one with the captions: --captions-file FILE"
        )
    pictures = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        if any(file.parent == path for file in pictures):
            raise UserError(f"{path}: has pictures but no table of captions; name it with --captions-file FILE")
        return {str(path): _Classes(path, pictures)}, path
    found = open_tables(Request(str(path)))
    return {_label(table, name): table for name, table in found.items()}, path


def _label(table: Table, name: str) -> str:
    """Return where the rows of a split come from."""
    return table.place(0).rpartition(", row ")[0] if table.n_rows else name


class _Classes:
    """The pictures in sub-folders, whose names are the captions."""

    def __init__(self, root: Path, pictures: Sequence[Path]) -> None:
        names = [file.relative_to(root).as_posix() for file in pictures]
        captions = [file.parent.name.replace("_", " ") for file in pictures]
        self._table = pa.table({"image": pa.array(names, pa.string()), "caption": pa.array(captions, pa.string())})
        self.n_rows, self.schema, self._root = len(names), self._table.schema, root

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield all rows of `columns`."""
        yield from self._table.select(list(columns)).to_batches(max_chunksize=128)

    def place(self, row: int) -> str:
        """Return the folder and the row in the sorted list of its pictures."""
        return f"{self._root}, row {row}"


def _shards(files: Sequence[Path]) -> dict[str, Table]:
    """Return the samples of webdataset files: members of a tar file whose names differ in their suffix only."""
    import datasets

    for file in files:
        _check_members(file)
    label = str(files[0]) if len(files) == 1 else f"{files[0].parent}/*.tar"
    with reading(label):
        found = datasets.load_dataset(
            "webdataset",
            data_files={"train": [str(file) for file in files]},
            split="train",
            cache_dir=str(cache_root() / "webdataset"),
        )
    return {label: Saved(found, label)}


def _check_members(file: Path) -> None:
    """Raise UserError if a member of a tar file is too large to be held in memory, by its header."""
    check_input_file(file)
    with reading(file), tarfile.open(file, "r:") as archive:
        for member in archive:
            if member.size > MAX_BYTES:
                raise UserError(
                    f"{file}: {member.name!r} has {member.size:,} bytes, more than the limit of {MAX_BYTES:,}"
                )
            archive.members = []  # type: ignore[attr-defined]  # a shard may have millions


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: file not found; expected a table with pictures and captions")
    return path


def _files(path: Path, captions_file: Path | None) -> list[Path]:
    """Return the files whose change would mix up rows: not the pictures."""
    if captions_file is not None:
        return [captions_file]
    if not path.is_dir():
        return [path] if path.exists() else []
    return sorted(file for file in path.iterdir() if file.is_file() and not looks_like_picture(file.name))
