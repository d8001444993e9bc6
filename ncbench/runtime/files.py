"""Reading and writing files. Writes are atomic, and files are not overwritten by accident."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ncbench.errors import UserError, brief
from ncbench.runtime.input_files import check_input_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEMPORARY = ".*.tmp"
"""Names of the files that `write_atomic` is about to rename; a killed process leaves one behind."""

MAX_TOML_BYTES = 2**20

_guards: list[tuple[Path, Callable[[], None]]] = []


@contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Inside this block, call `check` before a file below `folder` is replaced or removed by this module.

    `check` raises an exception if this process may not do that any more.
    """
    guard = folder.absolute(), check
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Create or replace `path` atomically; `write` writes the content to the binary file that it receives.

    The content is written to a temporary file in the same folder, flushed to disk, and renamed; then the folder is
    flushed, so that the file survives a loss of power from here on. `durable=False` skips both flushes. On an error
    (OSError) before the renaming, `path` is unchanged and the temporary file is removed. Raises what a guard raises.
    """
    temporary: Path | None = None
    try:
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # mkstemp creates private files; records should have normal permissions.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # noqa: PTH101 - tests make calls of `os` fail
        _check_guards(path)
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
        if durable:
            flush_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
        if isinstance(error, OSError) and error.errno is not None:
            _check_guards(path)  # the error may be that of a process that has lost its right to write
            if error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(f".{path.name}."):
                error.filename, error.filename2 = str(path), None  # a full disk has no name; others are temporary
        raise


def remove(path: Path) -> None:
    """Remove the file `path` if it exists. Raises OSError, and what a guard raises."""
    _check_guards(path)
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, if they do not exist, so that they survive a loss of power. Raises OSError."""
    if folder.is_dir() or folder == folder.parent:
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102
    flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk, if its file system can do that. Raises OSError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            error.filename = str(folder)
            raise
    finally:
        os.close(descriptor)


def sweep_temporary(folder: Path, older_than: float = -math.inf) -> None:
    """Remove the temporary files in `folder` that are `older_than` so many seconds, by the clock of this machine.

    Files that cannot be removed remain.
    """
    for path in folder.glob(TEMPORARY):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > older_than:
                remove(path)


def _check_guards(path: Path) -> None:
    place = path.absolute()
    for folder, check in list(_guards):
        if place.is_relative_to(folder):
            check()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` atomically as sorted, indented JSON. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def check_absent(paths: Sequence[Path]) -> None:
    """Raise UserError if one of `paths` exists."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} already exists; choose another path, or overwrite it with --force")


def read_toml(path: Path, source: str) -> dict[str, Any]:
    """Return the content of a TOML file. Raises UserError, prefixed with `source`, if it is missing or invalid."""
    check_input_file(path.expanduser(), MAX_TOML_BYTES)
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{source} {path}: {error.strerror}; expected a TOML file") from error
    except (ValueError, RecursionError) as error:  # besides errors of syntax: nesting, and numbers with too many digits
        raise UserError(f"{source} {path}: not valid TOML: {brief(error)}") from error
