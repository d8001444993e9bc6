"""Writing files so that a reader sees the old content or the new one, never a part, and no file is lost unasked."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from ncbench.errors import UserError


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
