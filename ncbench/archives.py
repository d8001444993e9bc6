"""Archives of arrays (.npz) from anywhere: read without running anything, refused if damaged."""

from __future__ import annotations

import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray


class Damaged(ValueError):  # noqa: N818 - an outcome of reading
    """A file is no archive of arrays, or not any more."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in `path` by name. Raises Damaged where it is missing or no whole archive of plain arrays."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    # Changed bytes reach zip, zlib, and the parser of NumPy's headers.
    except (OSError, EOFError, BadZipFile, zlib.error, AttributeError, KeyError, MemoryError) as error:
        raise Damaged(str(error)) from error
    except (RuntimeError, SyntaxError, TokenError, ValueError) as error:
        raise Damaged(str(error)) from error
