"""File operations that fail, or after which the power is lost."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "utime", "chmod")


class PowerLost(BaseException):
    """The process ends here: nothing that it does later has an effect."""


class FailingFiles:
    """Counts the operations below `root`; the `failing`-th one fails, and all later ones if it is `lasting`.

    The power is lost before the `last`-th one. `kept` writes what is then on the disk.
    """

    def __init__(self, root: Path, failing: int = 0, lasting: bool = False, last: int = 0) -> None:
        self.root = root.resolve()
        self.failing, self.lasting, self.last = failing, lasting, last
        self.count = 0
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}  # open descriptors, so that the numbers of files are not used again

    @contextmanager
    def watched(self, patch: pytest.MonkeyPatch) -> Iterator[FailingFiles]:
        """Watch the operations inside this block."""
        with patch.context() as inner:
            for name in OPERATIONS:
                inner.setattr(os, name, self._around(name, getattr(os, name)))
            inner.setattr(io, "open", self._around("open", io.open))
            fdopen = os.fdopen
            inner.setattr(os, "fdopen", lambda *args, **options: _Written(fdopen(*args, **options), self))
            yield self
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def step(self, path: Path) -> None:
        """Count an operation on `path`. Raises OSError or PowerLost if its turn has come."""
        self.count += 1
        if self.last and self.count >= self.last:
            raise PowerLost
        if self.failing and (self.count == self.failing or (self.lasting and self.count > self.failing)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def kept(self, target: Path, entries: bool) -> None:
        """Write into `target` what is left: contents that were flushed; of folders what was flushed, or all `entries`.

        File systems may write entries before contents, and later than the program thinks.
        """
        self._build(self.root, self.root.stat().st_ino, target, entries)

    def _build(self, source: Path | None, number: int, target: Path, entries: bool) -> None:
        target.mkdir()
        if entries and source is not None:
            found = {name: os.lstat(source / name).st_ino for name in os.listdir(source)}  # noqa: PTH208
        else:
            found = self._entries.get(number, {})
        for name, inner in found.items():
            if inner in self._entries or (source is not None and (source / name).is_dir()):  # of it, nothing is known
                self._build(source and source / name, inner, target / name, entries)
            else:
                (target / name).write_bytes(self._contents.get(inner, b""))
                os.utime(target / name, (0, 0))  # the machine needs some time to start

    def _around(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            path = self._place(first, options)
            if path is None:
                return original(first, *rest, **options)
            self.step(path)
            result = original(first, *rest, **options)
            if name == "fsync":
                self._flushed(first, path)
            return result

        return call

    def _place(self, name: Any, options: dict[str, Any]) -> Path | None:
        """Return what an operation is about, None outside of the root."""
        folder = options.get("dir_fd")
        path = Path(f"/proc/self/fd/{name}").readlink() if isinstance(name, int) else Path(os.fsdecode(name))
        if folder is not None:
            path = Path(f"/proc/self/fd/{folder}").readlink() / path
        path = Path(os.path.abspath(path))  # noqa: PTH100
        return path if path.is_relative_to(self.root) else None

    def _flushed(self, descriptor: int, path: Path) -> None:
        facts = os.fstat(descriptor)
        self._held.setdefault(facts.st_ino, os.dup(descriptor))
        if stat.S_ISDIR(facts.st_mode):
            self._entries[facts.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._contents[facts.st_ino] = os.pread(descriptor, 1 << 30, 0)


class _Written:
    """A file whose writes are operations."""

    def __init__(self, file: Any, files: FailingFiles) -> None:
        self._file, self._files = file, files
        self._path = files._place(file.fileno(), {})

    def write(self, content: Any) -> int:
        if self._path is not None:
            self._files.step(self._path)
        return int(self._file.write(content))

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
