"""Files that stand in place of data: pointers of Git LFS, and web pages saved by a download that failed."""

from __future__ import annotations

import re
from pathlib import Path

from ncbench.errors import UserError
from ncbench.runtime.input_files import check_input_file

_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)
_START_BYTES = 512


def stand_in(start: bytes) -> str:
    """Return what content that begins with `start` is instead of data, with the remedy; "" if it may be data."""
    if start.startswith(_LFS):
        return "is a Git LFS pointer, not the data; run `git lfs pull`"
    if _HTML.match(start.removeprefix(b"\xef\xbb\xbf")):
        return "is a web page (HTML), not the data; the download failed, repeat it"
    return ""


def check_data_file(path: Path, max_bytes: int | None = None) -> None:
    """Raise UserError if `path` is a stand-in, or as `check_input_file`. A missing file is left to its reader."""
    check_input_file(path, max_bytes)
    try:
        with path.open("rb") as file:
            found = stand_in(file.read(_START_BYTES))
    except OSError:
        return
    if found:
        raise UserError(f"{path}: {found}")
