"""Results kept in the user's cache, each found by a digest of all that it depends on."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ncbench.data.cache import cache_root
from ncbench.runtime.bounded import read_bytes
from ncbench.runtime.files import write_atomic

MAX_BYTES = 256 * 2**20
"""Of a result; larger ones are not kept."""
UNUSED_DAYS = 30
"""After which a result that nobody asked for is removed."""

T = TypeVar("T")


class Kept:
    """The results in a folder of the cache. A cache that cannot be read or written is empty."""

    def __init__(self, name: str) -> None:
        self._folder = cache_root() / name

    def get(self, digest: str, kind: type[T]) -> T | None:
        """Return the result with a digest, a `kind`; None if there is none, or a damaged one."""
        path = self._path(digest)
        try:
            found = msgspec.msgpack.decode(read_bytes(path, MAX_BYTES), type=kind)
        except (OSError, ValueError, RecursionError):
            return None
        with suppress(OSError):
            os.utime(path)  # it is in use
        return found

    def put(self, digest: str, result: object) -> None:
        """Keep a result, of types that msgpack knows."""
        content = msgspec.msgpack.encode(result)
        if len(content) <= MAX_BYTES:
            with suppress(OSError):
                write_atomic(self._path(digest), lambda file: file.write(content), durable=False)

    def tidy(self) -> None:
        """Remove the results that nobody asked for in a long time."""
        oldest = time.time() - UNUSED_DAYS * 86_400
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.msgpack"
