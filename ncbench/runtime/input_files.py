"""Limits on files that a user names, checked before their content is read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import AnyStr, Protocol

from ncbench.errors import UserError

MAX_LINE = 2**24
"""Bytes or characters of the longest line that is read."""


class _Lines(Protocol[AnyStr]):
    def readline(self, size: int, /) -> AnyStr: ...


def check_input_file(path: Path, max_bytes: int | None = None) -> None:
    """Raise UserError if `path` is a device, a pipe or a socket, which may never end, or exceeds `max_bytes`.

    A file that does not exist, and a folder, are left to the reader.
    """
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return
    if stat.S_ISDIR(facts.st_mode):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise UserError(f"{path}: is a device, a pipe or a socket, expected a file; copy the content into one")
    if max_bytes is not None and facts.st_size > max_bytes:
        raise UserError(f"{path}: has {facts.st_size:,} bytes, more than the limit of {max_bytes:,}")


def lines_within(file: _Lines[AnyStr], path: Path) -> Iterator[AnyStr]:
    """Yield the lines of `file`, with their ends. Raises UserError for a line longer than MAX_LINE."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise UserError(f"{path}:{number}: the line is longer than the limit of {MAX_LINE:,}; check the file")
        yield line
