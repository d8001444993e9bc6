"""Reading files of others: regular files only, and never more than a number of bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe would wait for a writer


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading.

    Raises OSError, and ValueError for a larger file and for anything else, such as a pipe or a device, which may have
    no end.
    """
    descriptor = os.open(path, os.O_RDONLY | _NOT_BLOCKING)
    file = os.fdopen(os.dup(descriptor), "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    os.close(descriptor)
    if file is None:
        raise ValueError("it is not a regular file")
    if os.fstat(file.fileno()).st_size > limit:
        file.close()
        raise ValueError(f"it is larger than {in_mib(limit)}")
    return file


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raises as `open_regular`."""
    with open_regular(path, limit) as file:
        content = file.read(limit + 1)  # the file may be growing
    if len(content) > limit:
        raise ValueError(f"it is larger than {in_mib(limit)}")
    return content


def in_mib(count: int) -> str:
    """Return a number of bytes in MiB, in words."""
    return f"{count / 2**20:,.0f} MiB"
