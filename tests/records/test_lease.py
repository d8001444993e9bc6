"""Leases: one process at a time, and none forever."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ncbench.records import lease as lease_module
from ncbench.records.lease import LEASE_FILE, Holder, holder_of, is_held, take

THREADS, TIMEOUT = 16, 60


def age(folder: Path, seconds: float) -> None:
    """Date the last heartbeat of the lease back."""
    then = time.time() - seconds
    os.utime(folder / LEASE_FILE, (then, then))


def test_one_holds_it_and_releases_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with take(folder) as lease:
        assert lease is not None
        assert not lease.lost
        assert is_held(folder)
        holder = holder_of(folder)
        assert holder is not None
        assert (holder.host, holder.process) == (socket.gethostname(), os.getpid())
        assert str(holder) == f"process {os.getpid()} on {socket.gethostname()}"
        with take(folder) as second:
            assert second is None
        assert holder_of(folder) == holder  # a refused request changes nothing
    assert list(folder.iterdir()) == []
    assert not is_held(folder)
    with take(folder) as again:
        assert again is not None


def test_an_error_releases_it_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), take(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_keeps_it(tmp_path: Path) -> None:
    with take(tmp_path, heartbeat=0.02) as lease:
        age(tmp_path, 1000)
        deadline = time.monotonic() + 5
        while not is_held(tmp_path, stale_after=1) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_held(tmp_path, stale_after=1)
        assert lease is not None
        assert not lease.lost


def test_a_stale_one_is_taken_over_and_its_holder_notices(tmp_path: Path) -> None:
    with take(tmp_path, heartbeat=0.3) as lease:
        assert lease is not None
        age(tmp_path, 61)
        with take(tmp_path) as second:
            assert second is not None
            taken = holder_of(tmp_path)
            deadline = time.monotonic() + 5
            while not lease.lost and time.monotonic() < deadline:
                time.sleep(0.01)
            assert lease.lost
            assert holder_of(tmp_path) == taken
        assert not second.lost
    assert list(tmp_path.iterdir()) == []


def test_releasing_a_lost_lease_leaves_that_of_its_new_holder(tmp_path: Path) -> None:
    with take(tmp_path, heartbeat=100) as lease:
        assert lease is not None
        age(tmp_path, 61)
        with take(tmp_path) as second:
            assert second is not None
            lease.release()
            assert is_held(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"host": "x", "process": "y", "token": "z"}'])
def test_a_file_without_a_holder_is_a_lease_until_it_is_stale(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).write_bytes(content)
    assert holder_of(tmp_path) is None
    with take(tmp_path) as lease:
        assert lease is None
    age(tmp_path, 61)
    with take(tmp_path) as lease:
        assert lease is not None


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_gets_it(stale: bool, tmp_path: Path) -> None:
    """All ask before any lets go. One may take over a stale lease from another, which then is no longer the holder."""
    if stale:
        (tmp_path / LEASE_FILE).write_text(json.dumps({"host": "gone", "space": "", "process": 1, "token": "t"}))
        age(tmp_path, 1000)
    begin, decided = threading.Barrier(THREADS), threading.Barrier(THREADS)
    holders: list[Holder] = []

    def attempt(_: int) -> None:
        begin.wait(TIMEOUT)
        with take(tmp_path) as lease:
            if lease is not None:
                holders.append(lease.holder)
            decided.wait(TIMEOUT)
            if lease is not None and holder_of(tmp_path) != lease.holder:
                holders.remove(lease.holder)
            decided.wait(TIMEOUT)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(attempt, range(THREADS)))
    assert len(holders) == 1


def test_a_fresh_lease_that_was_moved_by_mistake_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes find a stale lease; the second one moves the fresh lease of the first one."""
    stale = lease_module.Holder("gone", "", 1, "old")
    (tmp_path / LEASE_FILE).write_text(json.dumps(vars(stale)))
    age(tmp_path, 1000)
    fresh = lease_module.Holder("here", "", 2, "new")
    original = Path.rename

    def rename(source: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", original)
        (tmp_path / LEASE_FILE).unlink()
        assert lease_module._create(tmp_path, fresh)
        return original(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with take(tmp_path) as lease:
        assert lease is None
    assert holder_of(tmp_path) == fresh
    assert [path.name for path in tmp_path.iterdir()] == [LEASE_FILE]


def test_the_lease_of_a_killed_process_is_stale_at_once_here_and_later_elsewhere(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; from ncbench.records.lease import take"
    code += "\nwith take(pathlib.Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.gone
    for other in ({"host": "elsewhere"}, {"space": "another container"}):  # from where the process cannot be seen
        (tmp_path / LEASE_FILE).write_text(json.dumps({**vars(holder), **other}))
        with take(tmp_path) as lease:
            assert lease is None
        age(tmp_path, 61)
        assert not is_held(tmp_path)
    (tmp_path / LEASE_FILE).write_text(json.dumps(vars(holder)))
    with take(tmp_path) as lease:
        assert lease is not None
