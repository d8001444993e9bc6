"""A folder of pictures with a captions file: tab-separated rows of picture, caption and optionally split."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ncbench.data.captions_file import is_header, read_text
from ncbench.data.imported.pictures import BadPictureError, read_below
from ncbench.data.imported.request import Request
from ncbench.data.imported.split_names import REST, SPLIT_NAMES, split_of
from ncbench.errors import UserError

IMAGE, CAPTIONS = "image", "captions"
_SCHEMA = pa.schema(
    [(IMAGE, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), (CAPTIONS, pa.list_(pa.string()))]
)
_BATCH_SIZE = 16  # pictures, which may be large
_CAPTION_NUMBER = re.compile(r"#\d+$")  # the files of Flickr8k and Flickr30K number the captions: 12.jpg#0


@dataclass
class Pictures:
    """The pictures of a split in `root`, and their captions; `lines` are those of each picture's first caption."""

    root: Path
    file: Path
    names: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)

    @property
    def n_rows(self) -> int:
        """Number of pictures."""
        return len(self.names)

    @property
    def schema(self) -> Any:
        """Names and types of the columns."""
        return _SCHEMA

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield all pictures and captions. Raises UserError for a picture outside of the folder."""
        for start in range(0, self.n_rows, _BATCH_SIZE):
            numbers = range(start, min(start + _BATCH_SIZE, self.n_rows))
            read = [{"bytes": self._read(n), "path": self.names[n]} for n in numbers]
            captions = self.captions[start : start + _BATCH_SIZE]
            yield pa.record_batch([pa.array(read, _SCHEMA.field(IMAGE).type), pa.array(captions)], schema=_SCHEMA)

    def _read(self, row: int) -> bytes | None:
        """Return the encoded picture; None if it cannot be read, which whoever reads it by its path is told again."""
        try:
            return read_below(self.root, self.names[row], self.place(row))
        except BadPictureError:
            return None

    def place(self, row: int) -> str:
        """Return the first line of the captions file that names a picture."""
        return f"{self.file}:{self.lines[row]}" if self.names else str(self.file)


def read_folder(path: Path | None, request: Request) -> Mapping[str, Pictures]:
    """Return the pictures of each split; pictures without a split are `train`. Raises UserError for invalid rows."""
    file = Path(request.captions_file).expanduser()
    if path is None or not path.is_dir():
        raise UserError(f"{request.source}: expected a folder of pictures, as there is a captions file")
    if not file.is_file():
        raise UserError(f"{file}: file not found; expected rows of picture, tab, caption")
    splits: dict[str, Pictures] = {}
    where: dict[str, tuple[str, int]] = {}
    for line, (name, *cells) in _cells(file):
        if len(cells) not in (1, 2):
            raise UserError(
                f"{file}:{line}: found {len(cells) + 1} columns, expected picture, tab, caption (, tab, split)"
            )
        name, caption = _CAPTION_NUMBER.sub("", name.strip()), cells[0].strip()
        if not name or not caption:
            raise UserError(f"{file}:{line}: empty {'caption' if name else 'picture name'}; fill it or remove the row")
        split = split_of(cells[1].strip()) if len(cells) > 1 else "train"
        if split is None:
            known = ", ".join(word for words in SPLIT_NAMES.values() for word in words)
            raise UserError(f"{file}:{line}: unknown split {cells[1].strip()!r}; expected {known} or {REST}")
        part = splits.setdefault(split, Pictures(path, file))
        of, number = where.setdefault(name, (split, part.n_rows))
        if of != split:
            raise UserError(
                f"{file}:{line}: {name!r} is in split {split} here, but in {of} before; a picture belongs to one split"
            )
        if number == part.n_rows:
            part.names.append(name)
            part.lines.append(line)
            part.captions.append([])
        part.captions[number].append(caption)
    if not splits:
        raise UserError(f"{file}: contains no captions; expected rows of picture, tab, caption")
    return splits


def _cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row, without a header.

    Cells are separated by tabs, or, if the first line has none, by the first of comma, semicolon and bar in it; these
    may be quoted as in CSV. Raises UserError for invalid quotes.
    """
    text = read_text(file)
    start = text.partition("\n")[0]
    delimiter = "\t" if "\t" in start else next((mark for mark in start if mark in ",;|"), "\t")
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
    before = 0
    try:
        for row in rows:
            first, line, before = before == 0, before + 1, rows.line_num
            if not (first and is_header(row)):
                yield line, row or [""]
    except csv.Error as error:
        raise UserError(f"{file}:{rows.line_num}: {error}; expected picture, {delimiter!r}, caption") from error


def picture_files(path: Path | None, request: Request) -> list[Path]:
    """Return the captions file and all pictures in it that exist. Raises UserError."""
    splits = read_folder(path, request)
    found = (part.root / name for part in splits.values() for name in part.names)
    return [Path(request.captions_file).expanduser(), *(file for file in found if _is_file(file))]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # reported with its line when it is read
        return False
