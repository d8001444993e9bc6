"""Reading files of others within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncbench.runtime.bounded import read_bytes


def test_regular_files_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 2**20)
    assert read_bytes(path, 2**20) == b"x" * 2**20
    with pytest.raises(ValueError, match="it is larger than 1 MiB"):
        read_bytes(path, 2**20 - 1)


def test_anything_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="it is not a regular file"):
            read_bytes(path, 100)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 100)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "absent", 100)


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    test_anything_else(tmp_path)
    test_regular_files_within_the_limit(tmp_path)
    assert (len(list(Path("/proc/self/fd").iterdir())) if before else 0) == before
