"""Files that never end, or are larger than what is read."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ncbench.errors import UserError
from ncbench.runtime import input_files
from ncbench.runtime.files import read_toml
from ncbench.runtime.input_files import check_input_file, lines_within


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize("make", [pipe, link_to_zeros, bound_socket])
def test_what_may_never_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("odd"))
    with pytest.raises(UserError, match=r"^odd: is a device, a pipe or a socket, expected a file; copy the content"):
        check_input_file(Path("odd"))
    with pytest.raises(UserError, match="odd: is a device"):
        read_toml(Path("odd"), "config")


def test_size_comes_before_content(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(UserError, match="sparse: has 1,099,511,627,776 bytes, more than the limit of 1,048,576"):
        check_input_file(path, 2**20)
    check_input_file(path)
    check_input_file(path, 2**40)
    check_input_file(tmp_path)
    check_input_file(tmp_path / "absent")


def test_lines_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MAX_LINE", 4)
    assert list(lines_within(io.StringIO("abc\nd"), Path("x"))) == ["abc\n", "d"]
    assert list(lines_within(io.BytesIO(b"abc\n\nd\n"), Path("x"))) == [b"abc\n", b"\n", b"d\n"]
    with pytest.raises(UserError, match=r"^x:2: the line is longer than the limit of 4; check the file"):
        list(lines_within(io.StringIO("abc\nabcde"), Path("x")))
