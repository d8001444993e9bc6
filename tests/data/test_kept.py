"""Results that are kept in the user's cache."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ncbench.data import kept
from ncbench.data.kept import UNUSED_DAYS, Kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where results are kept."""
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    return tmp_path / "things"


def test_a_result_is_found_by_its_digest(folder: Path) -> None:
    things = Kept("things")
    assert things.get("one", list[int]) is None
    things.put("one", [1, 2])
    assert things.get("one", list[int]) == [1, 2]
    assert things.get("two", list[int]) is None


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91\xa1x", b"\x91" * 2000])
def test_a_damaged_result_is_none(content: bytes, folder: Path) -> None:
    things = Kept("things")
    things.put("one", [1])
    (folder / "one.msgpack").write_bytes(content)
    assert things.get("one", list[int]) is None


def test_large_results_are_neither_written_nor_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    things = Kept("things")
    things.put("one", b"x" * 100)
    monkeypatch.setattr(kept, "MAX_BYTES", 50)
    assert things.get("one", bytes) is None
    things.put("two", b"x" * 100)
    assert not (folder / "two.msgpack").exists()


def test_results_that_nobody_asks_for_are_removed(folder: Path) -> None:
    things = Kept("things")
    for name in ("used", "unused", "new"):
        things.put(name, 1)
    old = time.time() - (UNUSED_DAYS + 1) * 86_400
    for name in ("used", "unused"):
        os.utime(folder / f"{name}.msgpack", (old, old))
    assert things.get("used", int) == 1
    things.tidy()
    assert {path.stem for path in folder.iterdir()} == {"used", "new"}


def test_a_cache_that_cannot_be_used_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "file"))
    things = Kept("things")
    things.put("one", 1)
    assert things.get("one", int) is None
    things.tidy()
