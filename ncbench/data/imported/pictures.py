"""Reading pictures, within limits and only from their folder."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ncbench.data.imported.columns import Place
from ncbench.data.stand_ins import stand_in
from ncbench.errors import UserError
from ncbench.runtime.files import write_text
from ncbench.runtime.printable import printable

Picture: TypeAlias = NDArray[np.uint8]
MAX_PIXELS = 50_000_000
MAX_BYTES = 2**28


class BadPictureError(UserError):
    """A picture that is missing or cannot be decoded."""


class SkippedPictures:
    """The pictures that were left out, if `wanted`: why, one line each, in the order of the input.

    `elsewhere` is the option that names the folder of pictures, if there is one.
    """

    def __init__(self, wanted: bool, elsewhere: str = "") -> None:
        self.wanted = wanted
        self.elsewhere = f", or name the folder of the pictures with {elsewhere}" if elsewhere else ""
        self.lines: list[str] = []

    def add(self, error: BadPictureError) -> None:
        """Note a picture. Raises UserError, which names the options, if pictures must not be left out."""
        if not self.wanted:
            raise UserError(f"{error}, or leave such pictures out with --skip-bad{self.elsewhere}") from error
        self.lines.append(str(error))


def write_skipped(path: Path, lines: Sequence[str]) -> None:
    """Write the list of pictures that were left out, one line each. Raises OSError."""
    write_text(path, "".join(f"{printable(line)}\n" for line in lines))


def is_pictures(kind: Any) -> bool:
    """Return whether a column of type `kind` holds pictures as `datasets` stores them: bytes or a path."""
    return bool(pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"})


def picture_bytes(column: Any, name: str, root: Path | None, place: Place) -> list[bytes]:
    """Return the encoded pictures of a column of bytes, or of `datasets`' pictures with paths relative to `root`.

    Raises UserError for other types, rows without a picture, and paths outside of `root`.
    """
    kind = column.type
    if not (is_pictures(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(f"{place(0)}: {name!r} has type {kind}, expected pictures as bytes")
    found = []
    for row, value in enumerate(column.to_pylist()):
        held = value if isinstance(value, bytes) else (value or {}).get("bytes")
        if held is None:
            path = (value or {}).get("path")
            if not path or root is None:
                raise BadPictureError(f"{place(row)}: no picture in {name!r}; add one or remove the row")
            held = read_below(root, path, place(row))
        found.append(held)
    return found


def picture_names(column: Any) -> list[str]:
    """Return the file name of each picture of a column, "" where it has none."""
    if not is_pictures(column.type):
        return [""] * len(column)
    return [(value or {}).get("path") or "" for value in column.to_pylist()]


def read_below(root: Path, name: str, where: str) -> bytes:
    """Return the content of the file `name` in `root`. Raises UserError if it is missing or outside of `root`."""
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # the first two for a loop of links
        reason = getattr(error, "strerror", None) or str(error)
        raise BadPictureError(f"{where}: {name!r} cannot be read in {root} ({reason}); remove the row") from error
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"{where}: {name!r} is outside of {root}; move the file into that folder")
    if not path.is_file():
        raise BadPictureError(f"{where}: {name!r} is not a file in {root}; remove the row")
    if path.stat().st_size > MAX_BYTES:
        size = f"{path.stat().st_size:,} bytes, more than the limit of {MAX_BYTES:,}"
        raise BadPictureError(f"{where}: {name!r} has {size}; remove the row")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPictureError(
            f"{where}: {name!r} cannot be read in {root} ({error.strerror}); remove the row"
        ) from error


def decode(content: bytes, where: str) -> Picture:
    """Return a picture, (height, width, 3) uint8 RGB, with transparency on white. Raises UserError."""
    if not content or (found := stand_in(content[:512])):
        raise BadPictureError(f"{where}: the picture {found if content else 'is empty'}; replace it or remove the row")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels exceeds the limit of {MAX_PIXELS:,}"
                raise BadPictureError(f"{where}: a picture of {size}; scale it or remove the row")
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # Pillow raises many types of errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its message is the address of an object
            reason = f"no known format, begins with {content[:8]!r}"
        told = f"{where}: the picture cannot be decoded ({reason}); replace it or remove the row"
        raise BadPictureError(told) from error
