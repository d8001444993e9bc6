"""Atomic writes: readers see the old or the new content, never a part."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from ncbench.runtime.files import write_atomic, write_json, write_text


def test_creates_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomic(path, lambda file: file.write(b"one"))
    assert path.read_bytes() == b"one"
    write_atomic(path, lambda file: file.write(b"2"))
    assert path.read_bytes() == b"2"
    assert os.listdir(path.parent) == ["file.bin"]  # noqa: PTH208


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failing_writer_leaves_everything_as_it_was(tmp_path: Path, error: BaseException, existed: bool) -> None:
    path = tmp_path / "file.bin"
    if existed:
        path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, fail)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([b"old"] if existed else [])


def test_a_failing_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken" / "folder").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_text(tmp_path / "taken", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_readers_see_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_text())

    write_atomic(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert os.umask(before) == before  # the mask is unchanged


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "Größe ↑\n")
    assert (tmp_path / "file").read_bytes() == "Größe ↑\n".encode()


def test_json_is_sorted_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": [1, None], "a": {"d": 0.1, "c": True}})
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == {"b": [1, None], "a": {"d": 0.1, "c": True}}
    assert text == '{\n  "a": {\n    "c": true,\n    "d": 0.1\n  },\n  "b": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", {"a": [value]})
    assert list(tmp_path.iterdir()) == []
