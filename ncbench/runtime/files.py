"""Writing files so that a reader sees the old content or the new one, never a part, and no file is lost unasked."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ncbench.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Create or replace `path` with what `write` puts into the binary file that it is given.

    The content goes to a temporary file in the same folder, is flushed to disk and renamed; what need not outlive the
    machine may spare the flush (not `durable`).
    Raises OSError; then `path` is as it was and no temporary file stays behind.
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
        # mkstemp makes private files; records are to be read by whoever may read the folder.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say what was being written
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` as sorted, indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def check_absent(paths: Sequence[Path]) -> None:
    """Raise UserError if one of `paths` exists: nothing is written over unasked."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; write to another place, or over it with --force.")


class DamagedArchive(ValueError):  # noqa: N818 - an outcome of reading
    """A file is no archive of arrays, or not any more."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in `path` by name. Raises DamagedArchive unless it is a whole archive of plain arrays."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    # Changed bytes reach zip, zlib, and the parser of NumPy's headers.
    except (OSError, EOFError, BadZipFile, zlib.error, AttributeError, KeyError, MemoryError) as error:
        raise DamagedArchive(str(error)) from error
    except (RuntimeError, SyntaxError, TokenError, ValueError) as error:
        raise DamagedArchive(str(error)) from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the content of the TOML file in `path`. Raises UserError, with `what` it is, for none and a bad one."""
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}; give the path of a TOML file.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{what} {path}: is no TOML: {error}.") from error
