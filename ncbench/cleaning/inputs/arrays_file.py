"""An .npz file with two matrices, the vectors of images and captions, and more columns if it has any."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ncbench.data.imported.tables import BATCH_ROWS
from ncbench.data.rows_file import read_block
from ncbench.errors import UserError


class ArraysFile:
    """The rows of the arrays (rows,) and (rows, D) in an .npz file; they are unpacked into `folder`, not loaded."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.arrays = self._unpacked(folder)
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if not lengths or len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items()) or "none"
            raise UserError(f"{path}: expected arrays of the same number of rows, found {told}")
        self.n_rows = next(iter(lengths.values()))
        self.schema = pa.schema([(name, _type(array)) for name, array in self.arrays.items()])

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield all rows of `columns`."""
        for start in range(0, self.n_rows, BATCH_ROWS):
            arrays = [_column(read_block(self.arrays[name], start, start + BATCH_ROWS)) for name in columns]
            yield pa.record_batch(arrays, names=list(columns))

    def place(self, row: int) -> str:
        """Return the file and the row in it."""
        return f"{self.path}, row {row}"

    def _unpacked(self, folder: Path) -> dict[str, np.ndarray[Any, Any]]:
        found = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
                needed, free = sum(each.file_size for each in members), shutil.disk_usage(folder).free
                if needed > free:
                    raise UserError(f"{self.path}: needs {needed:,} bytes in {folder}, but {free:,} are free")
                for number, member in enumerate(members):
                    target = folder / f"array-{number}.npy"
                    with archive.open(member) as packed, target.open("wb") as file:
                        shutil.copyfileobj(packed, file, 2**20)
                    array = np.load(target, mmap_mode="r", allow_pickle=False)
                    if array.ndim in (1, 2) and array.dtype.kind in "iufUb":
                        found[member.filename.removesuffix(".npy")] = array
        except UserError:
            raise
        except Exception as error:  # damaged bytes can fail in zipfile, in zlib and in NumPy's header parser
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self.path}: cannot be read ({reason}); save two arrays with numpy.savez") from error
        return found


def _type(array: np.ndarray[Any, Any]) -> Any:
    item = pa.string() if array.dtype.kind == "U" else pa.from_numpy_dtype(array.dtype.newbyteorder("="))
    return item if array.ndim == 1 else pa.list_(item, array.shape[1])


def _column(block: np.ndarray[Any, Any]) -> Any:
    if block.dtype.kind == "U":
        return pa.array(block.tolist(), pa.string())
    native = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    if native.ndim == 1:
        return pa.array(native)
    return pa.FixedSizeListArray.from_arrays(pa.array(native.ravel()), native.shape[1])
