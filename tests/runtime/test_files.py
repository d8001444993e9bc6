"""Atomic writes: readers see the old or the new content, never a part."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from ncbench.runtime.files import guarded, make_folder, remove, sweep_temporary, write_atomic, write_json, write_text


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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Return the calls that change or flush files, with the names of what they are about, as they happen."""
    made: list[tuple[str, str]] = []
    fsync, replace, mkdir = os.fsync, os.replace, os.mkdir

    def on_fsync(descriptor: int) -> None:
        made.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def on_replace(source: Path, target: Path) -> None:
        made.append(("rename", target.name))
        replace(source, target)

    def on_mkdir(path: Path) -> None:
        made.append(("make", path.name))
        mkdir(path)

    for name, function in (("fsync", on_fsync), ("replace", on_replace), ("mkdir", on_mkdir)):
        monkeypatch.setattr(os, name, function)
    return made


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of descriptors")
def test_files_and_the_folders_that_hold_them_are_flushed(calls: list[tuple[str, str]], tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file", "text")
    folders = [("make", "a"), ("flush", tmp_path.name), ("make", "b"), ("flush", "a")]
    assert calls[:4] == folders
    assert [kind for kind, _ in calls[4:]] == ["flush", "rename", "flush"]
    assert calls[4][1].startswith(".file.")
    assert calls[5:] == [("rename", "file"), ("flush", "b")]
    calls.clear()
    write_atomic(tmp_path / "file", lambda file: file.write(b""), durable=False)
    assert calls == [("rename", "file")]


@pytest.mark.parametrize(("fault", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_folders_that_cannot_be_flushed(
    fault: int, raises: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(fault, os.strerror(fault))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    if raises:
        with pytest.raises(OSError, match="Input/output error") as error:
            write_text(tmp_path / "file", "text")
        assert error.value.filename == str(tmp_path)
    else:
        write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("name", ["fsync", "chmod", "replace"])
def test_errors_name_the_file_that_was_asked_for(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(first: object, *rest: object) -> None:
        names = () if isinstance(first, int) else (str(first), None, *map(str, rest))
        raise OSError(errno.ENOSPC, "No space left on device", *names)

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left") as error:
        write_text(tmp_path / "file", "text")
    assert error.value.filename == str(tmp_path / "file")
    assert error.value.filename2 is None
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing") as error:
        write_atomic(tmp_path / "copy", lambda file: file.write((tmp_path / "missing").read_bytes()))
    assert error.value.filename == str(tmp_path / "missing")


def test_a_guard_decides_before_files_below_its_folder_change(tmp_path: Path) -> None:
    class Refused(BaseException):
        pass

    def refuse() -> None:
        raise Refused

    run, other = tmp_path / "run", tmp_path / "run-2"
    for folder in (run, other):
        write_text(folder / "file", "old")
    with guarded(run, refuse):
        changes: list[Callable[[], None]] = [
            lambda: write_text(run / "file", "new"),
            lambda: write_text(run / "deep" / "file", "new"),
            lambda: remove(run / "file"),
        ]
        for change in changes:
            with pytest.raises(Refused):
                change()
        write_text(other / "file", "new")
    assert ((run / "file").read_text(), (other / "file").read_text()) == ("old", "new")
    assert not list(tmp_path.rglob("*.tmp"))
    write_text(run / "file", "new")
    remove(run / "file")
    remove(run / "file")
    assert not (run / "file").exists()


def test_temporary_files_are_swept_by_age(tmp_path: Path) -> None:
    for name in (".a.x.tmp", ".b.x.tmp", "kept.tmp", ".kept"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".a.x.tmp", (time.time() - 90, time.time() - 90))
    sweep_temporary(tmp_path, older_than=60)
    assert {path.name for path in tmp_path.iterdir()} == {".b.x.tmp", "kept.tmp", ".kept"}
    sweep_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.tmp", ".kept"}
    sweep_temporary(tmp_path / "missing")


def test_folders_are_made_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "folder")
