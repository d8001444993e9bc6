"""Archives of arrays: damage to any byte, and archives that would run code, raise an error."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from ncbench.runtime.archives import DamagedArchive, read_arrays


def test_arrays_are_read_back(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", one=np.arange(3), two=np.eye(2))
    found = read_arrays(tmp_path / "a.npz")
    assert sorted(found) == ["one", "two"]
    np.testing.assert_array_equal(found["two"], np.eye(2))


def test_any_byte_may_be_another(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, told=np.arange(5))
    path, whole = tmp_path / "a.npz", content.getvalue()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(DamagedArchive):  # harmless bytes, such as dates, may pass
            read_arrays(path)
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedArchive):
            read_arrays(path)


def test_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.array([None]))
    with pytest.raises(DamagedArchive, match="pickle"):
        read_arrays(tmp_path / "a.npz")


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DamagedArchive, match="No such file"):
        read_arrays(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(DamagedArchive, match="files"):
        read_arrays(tmp_path / "a.npy")
