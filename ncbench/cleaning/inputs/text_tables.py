"""Tables in text files: CSV, TSV and JSON lines. Cells of CSV files stay text, so that writing them changes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ncbench.data.imported.tables import BATCH_ROWS, reading
from ncbench.errors import UserError
from ncbench.runtime.input_files import MAX_LINE, lines_within

DELIMITED, JSON_LINES = (".csv", ".tsv", ".txt", ".token"), (".jsonl", ".ndjson")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
WITHOUT_HEADER = ("image", "caption", "split")
"""Names of the columns of a file whose first row names a picture, and therefore has no header."""

_DELIMITERS = ",\t;|"


def looks_like_picture(text: str) -> bool:
    """Return whether a text ends like the name of a picture, with or without a number of the caption: `1.jpg#0`."""
    return text.strip().lower().partition("#")[0].endswith(PICTURE_SUFFIXES)


class Delimited:
    """The rows of a CSV or TSV file."""

    def __init__(self, path: Path) -> None:
        csv.field_size_limit(MAX_LINE)
        self.path = path
        with self._opened() as file:
            line = next(lines_within(file, path), "")
        if not line.strip():
            raise UserError(f"{path}: is empty or begins with an empty line; expected a row with the names of columns")
        self.delimiter = "\t" if path.suffix == ".tsv" else max(_DELIMITERS, key=line.count)
        first = next(csv.reader([line], delimiter=self.delimiter))
        self.has_header = not any(map(looks_like_picture, first))
        # Files of pictures, tab, caption, as those of Flickr8k, have quotes in captions that close nothing.
        plain = self.delimiter == "\t" and not self.has_header
        self._quoting: Literal[0, 3] = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
        if self.has_header:
            self.names = [name.strip() for name in first]
        else:
            more = [f"column{number}" for number in range(len(WITHOUT_HEADER), len(first))]
            self.names = [*WITHOUT_HEADER[: len(first)], *more]
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise UserError(f"{path}: names of columns are empty or used twice in the first row: {', '.join(first)}")
        self.schema = pa.schema([(name, pa.string()) for name in self.names])
        self.n_rows = sum(1 for _ in self._rows())

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield all rows of `columns`."""
        places, rows = [self.names.index(name) for name in columns], self._rows()
        while some := list(islice(rows, BATCH_ROWS)):
            arrays = [pa.array([row[place] for row in some], pa.string()) for place in places]
            yield pa.record_batch(arrays, names=list(columns))

    def place(self, row: int) -> str:
        """Return the file and the row in it."""
        return f"{self.path}, row {row}"

    def _rows(self) -> Iterator[list[str]]:
        with self._opened() as file:
            reader = csv.reader(
                lines_within(file, self.path), delimiter=self.delimiter, quoting=self._quoting, strict=True
            )
            try:
                if self.has_header:
                    next(reader)
                for row in reader:
                    if not row:
                        continue
                    if len(row) != len(self.names):
                        raise UserError(
                            f"{self.path}:{reader.line_num}: found {len(row)} columns, expected {len(self.names)} "
                            f"({', '.join(self.names)}); quote cells that contain {self.delimiter!r}"
                        )
                    yield row
            except csv.Error as error:
                raise UserError(f"{self.path}:{reader.line_num}: {error}; fix the row or remove it") from error

    @contextmanager
    def _opened(self) -> Iterator[io.TextIOWrapper]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it") from error


class JsonLines:
    """The rows of a file with one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path, self.n_rows, self.schema = path, 0, pa.schema([])
        for rows in self._batches():
            self.n_rows += len(rows)
            try:
                found = pa.Table.from_pylist(rows).schema
                self.schema = pa.unify_schemas([self.schema, found], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                last = self.n_rows
                raise UserError(
                    f"{path}: rows {last - len(rows)} to {last - 1} have values of different types ({error}); a key "
                    "must have values of one type"
                ) from error
        if not self.n_rows:
            raise UserError(f"{path}: contains no rows; expected one JSON object per line")

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield all rows of `columns`."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        with reading(self.path):
            for rows in self._batches():
                yield from pa.Table.from_pylist(rows, schema=schema).combine_chunks().to_batches()

    def place(self, row: int) -> str:
        """Return the file and the row in it."""
        return f"{self.path}, row {row}"

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        rows = self._rows()
        while some := list(islice(rows, BATCH_ROWS)):
            yield some

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(lines_within(file, self.path), 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode())
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{self.path}:{number}: not valid JSON ({error}); fix the line") from error
                if not isinstance(row, dict) or not row:
                    raise UserError(f"{self.path}:{number}: expected a JSON object with a caption and a picture")
                yield row
