"""Reading and writing files. Writes are atomic, and files are not overwritten by accident."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ncbench.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEMPORARY = ".*.tmp"
"""Names of the files that `write_atomic` is about to rename; a killed process leaves one behind."""


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Create or replace `path` atomically; `write` writes the content to the binary file that it receives.

    The content is written to a temporary file in the same folder, flushed to disk, and renamed. `durable=False` skips
    the flush. On an error (OSError), `path` is unchanged and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # mkstemp creates private files; records should have normal permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # the error of a full disk has no file name
        raise


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
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{source} {path}: {error.strerror}; expected a TOML file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{source} {path}: not valid TOML: {error}") from error
