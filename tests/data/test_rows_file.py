"""Rows read from .npy files equal those of the mapped array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncbench.data.dataset import ImageFeatures
from ncbench.data.rows_file import RowsFile, read_block
from ncbench.errors import UserError


def mapped(folder: Path, dtype: object = np.float32, rows: int = 40) -> np.memmap:
    path = folder / f"{np.dtype(dtype).name}.npy"  # type: ignore[call-overload]
    np.save(path, np.random.default_rng(0).normal(size=(rows, 3, 5)).astype(dtype))  # type: ignore[arg-type]
    found = np.load(path, mmap_mode="r")
    assert isinstance(found, np.memmap)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("cut", [slice(None), slice(0, 20), slice(7, 31)])
def test_rows_are_those_of_the_array(tmp_path: Path, dtype: type, cut: slice) -> None:
    array = mapped(tmp_path, dtype)[cut]
    file = RowsFile.of(array)
    assert file is not None
    rows = np.random.default_rng(1).integers(len(array), size=50)
    out = np.empty((50, 3, 5), np.float32)
    file.read(rows, out)
    np.testing.assert_array_equal(out, np.asarray(array)[rows].astype(np.float32))


def test_arrays_without_a_file_or_with_gaps(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    assert RowsFile.of(np.zeros((3, 2, 2), np.float32)) is None
    assert RowsFile.of(array[::2]) is None
    assert ImageFeatures([array]).on_disk
    assert not ImageFeatures([np.asarray(array).copy()]).on_disk


def test_rows_out_of_range(tmp_path: Path) -> None:
    file = RowsFile.of(mapped(tmp_path))
    assert file is not None
    for row in (-1, 40):
        with pytest.raises(IndexError, match="for 40 rows"):
            file.read(np.array([row]), np.empty((1, 3, 5), np.float32))


def test_a_file_truncated_while_in_use(tmp_path: Path) -> None:
    file = RowsFile.of(mapped(tmp_path))
    assert file is not None
    with (tmp_path / "float32.npy").open("r+b") as opened:
        opened.truncate(200)
    with pytest.raises(UserError, match=r"float32\.npy: file ends before row 39"):
        file.read(np.array([39]), np.empty((1, 3, 5), np.float32))


def test_chunks_with_strides_and_an_output(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    plain = np.asarray(array).copy()
    images = np.array([7, 0, 3, 3])
    out = np.empty((4, 3, 5), np.float32)
    assert ImageFeatures([array], stride=5).take(images, out) is out
    np.testing.assert_array_equal(out, plain[::5][images])
    both = ImageFeatures([array[:13], array[13:]], stride=5)
    np.testing.assert_array_equal(both.take(images), plain[::5][images])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
@pytest.mark.parametrize(("start", "stop"), [(0, 7), (5, 12), (38, 99), (40, 50)])
def test_blocks_are_read_from_the_file(tmp_path: Path, dtype: type, start: int, stop: int) -> None:
    array = mapped(tmp_path, dtype)
    for rows in (array, array[3:33], np.array(array), array.reshape(-1), array[:, 1:]):
        block = read_block(rows, start, stop)
        assert not isinstance(block, np.memmap)
        np.testing.assert_array_equal(block, rows[start:stop])


def test_blocks_of_a_file_that_was_cut(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    with Path(str(array.filename)).open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"float32\.npy: file ends before row 39; it was truncated while in use"):
        read_block(array, 30, 40)
