"""Caption files in the released formats: one caption per line, or tab-separated rows of image id and caption."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ncbench.errors import UserError


def read_captions(path: Path, tabbed: bool) -> list[str]:
    """Return the captions in `path`: one per line, or the second of tab-separated columns if `tabbed`.

    Raises UserError, with the line number, for empty captions and text that is not UTF-8.
    """
    lines = io.StringIO(read_text(path), newline=None)
    captions = []
    for number, caption in _tabbed(path, lines) if tabbed else enumerate(lines, 1):
        captions.append(caption.strip())
        if not captions[-1]:
            raise UserError(f"{path}:{number}: empty caption; every line must have a caption")
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
            before = reader.line_num
            if len(row) < 2:  # further columns are ignored, as in the published reader
                raise UserError(f"{path}:{reader.line_num}: found {len(row)} columns, expected image id, tab, caption")
            yield reader.line_num, row[1]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; expected image id, tab, caption") from error


def read_text(path: Path) -> str:
    """Return the text in `path`. Raises UserError, with the line number, if it is not UTF-8."""
    try:
        content = path.read_bytes()
        return content.decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
