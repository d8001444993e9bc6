"""Claims: one process at a time, and none for ever."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ncbench.records import lease
from ncbench.records.lease import NAME, holder_of, is_held, take


def age(folder: Path, seconds: float) -> None:
    """Make the claim look as if its last sign of life was so long ago."""
    then = time.time() - seconds
    os.utime(folder / NAME, (then, then))


def test_one_holds_it_and_gives_it_up(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with take(folder) as claim:
        assert claim is not None
        assert not claim.lost
        assert is_held(folder)
        holder = holder_of(folder)
        assert holder is not None
        assert (holder.host, holder.process) == (socket.gethostname(), os.getpid())
        assert str(holder) == f"process {os.getpid()} on {socket.gethostname()}"
        with take(folder) as second:
            assert second is None
        assert holder_of(folder) == holder  # who asks in vain leaves all as it is
    assert list(folder.iterdir()) == []
    assert not is_held(folder)
    with take(folder) as again:
        assert again is not None


def test_an_error_gives_it_up_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), take(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_sign_of_life_keeps_it(tmp_path: Path) -> None:
    with take(tmp_path, beat=0.02) as claim:
        age(tmp_path, 1000)
        deadline = time.monotonic() + 5
        while not is_held(tmp_path, stale=1) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_held(tmp_path, stale=1)
        assert claim is not None
        assert not claim.lost


def test_a_stale_one_is_taken_over_and_its_holder_notices(tmp_path: Path) -> None:
    with take(tmp_path, beat=0.3) as claim:
        assert claim is not None
        age(tmp_path, 61)
        with take(tmp_path) as second:
            assert second is not None
            taken = holder_of(tmp_path)
            deadline = time.monotonic() + 5
            while not claim.lost and time.monotonic() < deadline:
                time.sleep(0.01)
            assert claim.lost
            assert holder_of(tmp_path) == taken
        assert not second.lost
    assert list(tmp_path.iterdir()) == []


def test_who_lost_it_does_not_give_up_what_is_of_others(tmp_path: Path) -> None:
    with take(tmp_path, beat=100) as claim:
        assert claim is not None
        age(tmp_path, 61)
        with take(tmp_path) as second:
            assert second is not None
            claim.give_up()
            assert is_held(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"host": "x", "process": "y", "token": "z"}'])
def test_a_file_that_says_nothing_is_a_claim_until_it_is_stale(content: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert holder_of(tmp_path) is None
    with take(tmp_path) as claim:
        assert claim is None
    age(tmp_path, 61)
    with take(tmp_path) as claim:
        assert claim is not None


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    def attempt(number: int) -> int:
        with take(tmp_path) as claim:
            if claim is None:
                return 0
            time.sleep(0.3)
            return 1

    for stale in (False, True):
        if stale:
            (tmp_path / NAME).write_text(json.dumps({"host": "gone", "space": "", "process": 1, "token": "t"}))
            age(tmp_path, 1000)
        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(attempt, range(16))) == 1


def test_a_fresh_claim_that_was_moved_by_mistake_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two find a claim stale; the second one moves what the first one has just made."""
    stale = lease.Holder("gone", "", 1, "old")
    (tmp_path / NAME).write_text(json.dumps(vars(stale)))
    age(tmp_path, 1000)
    fresh = lease.Holder("here", "", 2, "new")
    original = Path.rename

    def rename(source: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", original)
        (tmp_path / NAME).unlink()
        assert lease._create(tmp_path, fresh)
        return original(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with take(tmp_path) as claim:
        assert claim is None
    assert holder_of(tmp_path) == fresh
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_of_a_killed_process_it_is_void_at_once_here_and_later_elsewhere(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; from ncbench.records.lease import take"
    code += "\nwith take(pathlib.Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.gone
    for other in ({"host": "elsewhere"}, {"space": "another container"}):  # where the process cannot be seen
        (tmp_path / NAME).write_text(json.dumps({**vars(holder), **other}))
        with take(tmp_path) as claim:
            assert claim is None
        age(tmp_path, 61)
        assert not is_held(tmp_path)
    (tmp_path / NAME).write_text(json.dumps(vars(holder)))
    with take(tmp_path) as claim:
        assert claim is not None
