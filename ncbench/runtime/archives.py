"""Arrays in .npz and .npy files of others: what is declared is checked before anything is unpacked or allocated."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ncbench.errors import brief
from ncbench.runtime.bounded import in_mib, open_regular

MAX_ARRAYS = 64
MAX_BYTES = 512 * 2**20
"""Of all arrays in a file: `beliefs.npz` of ten million pairs."""

_MAX_DIRECTORY = 2**16  # bytes of the table of contents
_END, _END_BYTES = b"PK\x05\x06", 22  # of a ZIP file; see the .ZIP File Format Specification, 4.3.16
_END_64, _END_64_BYTES = b"PK\x06\x07", 20


class DamagedArchive(ValueError):  # noqa: N818
    """A file is not a valid archive of arrays."""


@dataclass(frozen=True)
class Declared:
    """Shape and dtype of an array, as its header declares them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """The size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


Check = Callable[[Mapping[str, Declared]], object]


def read_arrays(path: Path, check: Check | None = None, limit: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """Return the arrays in the .npz file `path` by name.

    Raises DamagedArchive unless the file is complete and valid, has only plain arrays, and at most `limit` bytes of
    them. `check` is called with what the headers declare before any array is unpacked; it raises ValueError.
    """
    with _opened(path, limit) as (archive, members):
        declared = {name: _declared(archive, member) for name, member in members.items()}
        if check is not None:
            check(declared)
        return {name: _array(archive, member) for name, member in members.items()}


def read_headers(path: Path, limit: int = MAX_BYTES) -> dict[str, Declared]:
    """Return what the headers of the arrays in the .npz file `path` declare. Raises DamagedArchive."""
    with _opened(path, limit) as (archive, members):
        return {name: _declared(archive, member) for name, member in members.items()}


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[tuple[ZipFile, dict[str, ZipInfo]]]:
    """Open an archive whose table of contents is sound. Raises DamagedArchive."""
    with _damage(), open_regular(path, limit) as file:
        _check_directory(file)
        with ZipFile(file) as archive:
            yield archive, _members(archive, limit)


@contextmanager
def _damage() -> Iterator[None]:
    """Turn all errors of a damaged file into DamagedArchive."""
    try:
        yield
    except OSError as error:
        raise DamagedArchive(error.strerror or str(error)) from error
    # Damaged bytes can fail in zipfile, in zlib, and in NumPy's header parser.
    except (EOFError, BadZipFile, zlib.error, AttributeError, LookupError, ArithmeticError, MemoryError) as error:
        raise DamagedArchive(brief(error) or type(error).__name__) from error
    except (RuntimeError, SyntaxError, TokenError, TypeError, ValueError) as error:
        raise DamagedArchive(brief(error) or type(error).__name__) from error


def check_array_file(path: Path, limit: int = MAX_BYTES) -> Declared:
    """Return what the header of a .npy file declares. Raises DamagedArchive, also unless the file has that size."""
    with _damage(), open_regular(path, limit) as file:
        found, start = _read_header(file)
        size = file.seek(0, 2) - start
    if size != found.bytes:
        raise ValueError(f"it has {size:,} bytes of values, but its header declares {found.bytes:,}")
    return found


def _check_directory(file: BinaryIO) -> None:
    """Raise ValueError unless the table of contents is at the end of the file, and small."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES - _END_64_BYTES))
    tail = file.read()
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(_END):
        raise ValueError("it is not one of the files that NumPy writes as .npz, or was cut")
    count, directory = (int.from_bytes(end[start:stop], "little") for start, stop in ((10, 12), (12, 16)))
    if count > MAX_ARRAYS or directory > _MAX_DIRECTORY or tail.startswith(_END_64):
        raise ValueError(f"it has more than {MAX_ARRAYS} arrays")
    file.seek(0)


def _members(archive: ZipFile, limit: int) -> dict[str, ZipInfo]:
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("it has two arrays of one name")
    if any(member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for member in members.values()):
        raise ValueError("it is compressed in a way that NumPy does not use")
    total = sum(member.file_size for member in members.values())
    if total > limit:
        raise ValueError(f"its arrays would take {in_mib(total)}, more than {in_mib(limit)}")
    return members


def _declared(archive: ZipFile, member: ZipInfo) -> Declared:
    with archive.open(member) as file:
        found, start = _read_header(file)
    if member.file_size != start + found.bytes:
        raise ValueError(f"{member.filename} has {member.file_size - start:,} bytes, its header {found.bytes:,}")
    return found


def _read_header(file: Any) -> tuple[Declared, int]:
    """Return what the header of an array declares, and its length in bytes. Raises ValueError for Python objects."""
    version = npy.read_magic(file)
    if version != (1, 0):  # headers of later versions may be gigabytes; NumPy uses them for arrays with named fields
        raise ValueError(f"version {version} of the array format is not supported")
    shape, _, dtype = npy.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("it has Python objects (pickle), which are not loaded")
    if dtype.names is not None or dtype.subdtype is not None or any(size < 0 for size in shape):
        raise ValueError(f"it has an array of {dtype} with shape {shape}")
    return Declared(shape, dtype), file.tell()


def _array(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    # To the end, where zipfile compares the checksum; it stops at the size that was checked.
    with archive.open(member) as file:
        npy.read_magic(file)
        shape, in_columns, dtype = npy.read_array_header_1_0(file)
        values = np.frombuffer(bytearray(file.read()), dtype)
    return values.reshape(shape, order="F" if in_columns else "C")
