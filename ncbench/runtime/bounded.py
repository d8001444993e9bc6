"""Reading files of others: regular files only, and never more than a number of bytes."""

from __future__ import annotations

import errno
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
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a regular file")
        if facts.st_size > limit:
            raise ValueError(f"it is larger than {in_mib(limit)}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


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
