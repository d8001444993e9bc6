"""Caption files in the released formats: one caption per line, or tab-separated rows of image id and caption."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ncbench.data.stand_ins import check_data_file
from ncbench.errors import UserError

MAX_BYTES = 2**31
"""Bytes of the largest text file that is read: ten times the captions of CC12M would not fit."""

MAX_CAPTION_CHARACTERS = 10_000

_LONE_RETURN = re.compile(r"\r(?!\n)")
_IMAGE_NAMES = {
    "image",
    "image_id",
    "image_name",
    "imageid",
    "img",
    "id",
    "file",
    "filename",
    "file_name",
    "filepath",
    "path",
    "picture",
    "image_path",
}
_CAPTION_NAMES = {"caption", "captions", "text", "comment", "sentence", "title", "description", "raw"}


def read_captions(path: Path, tabbed: bool) -> list[str]:
    """Return the captions in `path`: one per line, or the second of tab-separated columns if `tabbed`.

    Raises UserError, with the line number, for empty and endless captions and text that is not UTF-8.
    """
    lines = io.StringIO(read_text(path), newline=None)
    captions = []
    for number, caption in _tabbed(path, lines) if tabbed else enumerate(lines, 1):
        captions.append(caption.strip())
        if not captions[-1]:
            raise UserError(f"{path}:{number}: empty caption; every line must have a caption")
        if len(captions[-1]) > MAX_CAPTION_CHARACTERS:
            raise UserError(f"{path}:{number}: the caption has more than {MAX_CAPTION_CHARACTERS:,} characters")
    return captions


def _tabbed(path: Path, lines: io.StringIO) -> Iterator[tuple[int, str]]:
    """Yield line number and caption of rows (image id, caption), with Excel's quoting as in the published reader."""
    reader = csv.reader(lines, delimiter="\t")
    before = 0
    try:
        for row in reader:
            if reader.line_num > before + 1:
                raise UserError(
                    f"{path}:{before + 1}: a quote opens in this line and closes in line {reader.line_num}; "
                    'write "" for a quote inside quotes, or remove it'
                )
            first, before = before == 0, reader.line_num
            if first and is_header(row):
                continue
            if len(row) < 2:  # further columns are ignored, as in the published reader
                raise UserError(f"{path}:{reader.line_num}: found {len(row)} columns, expected image id, tab, caption")
            yield reader.line_num, row[1]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; expected image id, tab, caption") from error


def read_text(path: Path) -> str:
    """Return the text in `path`, without a byte-order mark.

    Raises UserError for text that is not UTF-8 and for carriage returns inside lines, with the line number, and for
    files in place of the data (LFS pointers, HTML).
    """
    check_data_file(path, MAX_BYTES)
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        text = content.decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
    if lone := _LONE_RETURN.search(text):
        line = text.count("\n", 0, lone.start()) + 1
        raise UserError(f"{path}:{line}: a carriage return inside a line; end lines with \\n or \\r\\n only")
    return text


def is_header(row: Sequence[str]) -> bool:
    """Return whether the first row of a table names its columns: an image, then a caption."""
    names = [cell.strip().lower() for cell in row]
    return len(names) > 1 and names[0] in _IMAGE_NAMES and names[-1 if names[-1] != "split" else -2] in _CAPTION_NAMES
