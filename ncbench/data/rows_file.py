"""Reading rows of a .npy file on demand. A memory map would keep every page that was ever touched resident."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.errors import UserError


class RowsFile:
    """The rows of a memory-mapped array (rows, ...), read from its file in file order, directly into the output.

    Reading releases the GIL, so another thread can compute at the same time.
    """

    def __init__(self, mapped: np.memmap[Any, Any]) -> None:
        self.path, self._start = _place(mapped)
        self._rows, self._shape, self._dtype = len(mapped), mapped.shape[1:], mapped.dtype
        self._row_bytes = mapped.dtype.itemsize * int(np.prod(self._shape))
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    @staticmethod
    def of(array: NDArray[Any]) -> RowsFile | None:
        """Return a reader for `array`, or None if it is not a contiguous block of rows of a mapped file."""
        if isinstance(array, np.memmap) and array.flags.c_contiguous and array.ndim > 1 and hasattr(os, "preadv"):
            return RowsFile(array)
        return None

    def mapped(self) -> np.memmap[Any, Any]:
        """Return the array, mapped anew."""
        return np.memmap(self.path, self._dtype, "r", self._start, (self._rows, *self._shape))

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file again in another process, where the descriptor means nothing."""
        return _reopened, (self.path, self._dtype, self._start, (self._rows, *self._shape))

    def read(self, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Read `rows` (n,), in any order, into `out` (n, ...) float32. Raises IndexError and UserError."""
        if len(rows) and (rows.min() < 0 or rows.max() >= self._rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} are out of range for {self._rows} rows")
        direct = out.dtype == self._dtype and out.flags.c_contiguous
        buffer = None if direct else np.empty(self._shape, self._dtype)
        for place in np.argsort(rows, kind="stable"):
            target = out[place] if buffer is None else buffer
            self._read_row(int(rows[place]), target.data.cast("B"))
            if buffer is not None:
                out[place] = buffer

    def _read_row(self, row: int, target: memoryview) -> None:
        start, done = self._start + row * self._row_bytes, 0
        while done < self._row_bytes:
            got = os.preadv(self._file, [target[done:]], start + done)
            if got == 0:
                raise UserError(f"{self.path}: file ends before row {row}; it was truncated while in use. Restore it")
            done += got


def read_block(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Return a copy of rows `start` to `stop` of `array`, read from its file if it is memory-mapped."""
    block = array[start:stop]
    if not (isinstance(block, np.memmap) and block.flags.c_contiguous and block.size):
        return np.array(block)
    path, offset = _place(block)
    read: NDArray[Any] = np.fromfile(path, block.dtype, block.size, offset=offset)
    if read.size < block.size:
        raise UserError(f"{path}: file ends before row {stop - 1}; it was truncated while in use. Restore it")
    return read.reshape(block.shape)


def _reopened(path: Path, dtype: np.dtype[Any], start: int, shape: tuple[int, ...]) -> RowsFile:
    return RowsFile(np.memmap(path, dtype, "r", start, shape))


def _place(mapped: np.memmap[Any, Any]) -> tuple[Path, int]:
    """Return the file of a memory-mapped array, and the byte in it at which the array starts."""
    root = mapped
    while isinstance(root.base, np.memmap):
        root = root.base
    return Path(str(root.filename)), root.offset + mapped.ctypes.data - root.ctypes.data
