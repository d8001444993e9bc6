"""Leases: one process at a time, and none forever."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ncbench.records import lease as lease_module
from ncbench.records.lease import LEASE_FILE, Holder, holder_of, is_held, take
from ncbench.runtime.files import remove, sweep_temporary, write_text
from ncbench.runtime.signals import Stopped

THREADS, TIMEOUT = 16, 60
HUGE = b'{"host": "x", "space": "", "process": 1e999, "token": "z"}'


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


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b'{"host": "x", "process": "y", "token": "z"}', HUGE, b"[" * 4000]
)
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


def make_stale(folder: Path) -> Holder:
    stale = Holder("gone", "", 1, "old")
    (folder / LEASE_FILE).write_text(json.dumps(vars(stale)))
    age(folder, 1000)
    return stale


def test_one_of_two_that_find_a_stale_lease_takes_it_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one looks before the first one takes it over, and goes on afterwards."""
    make_stale(tmp_path)
    original, inner = lease_module._succeed, ExitStack()

    def late(path: Path, old: Holder | None, new: Holder) -> bool:
        monkeypatch.setattr(lease_module, "_succeed", original)
        assert inner.enter_context(take(tmp_path)) is not None
        return original(path, old, new)

    monkeypatch.setattr(lease_module, "_succeed", late)
    with inner, take(tmp_path) as second:
        assert second is None
        assert is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_of_two_that_move_the_successor_of_a_dead_process_away_is_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process ended while it took over; two others find its file, and the second removes that of the first."""
    stale = make_stale(tmp_path)
    successor = lease_module._successor(tmp_path / LEASE_FILE, stale)
    successor.write_text(json.dumps(vars(Holder("gone", "", 1, "between"))))
    os.utime(successor, (0, 0))
    other = Holder.new()
    original = os.replace

    def replace(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", original)
        successor.unlink()
        successor.write_text(json.dumps(vars(other)))
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with take(tmp_path) as first:
        assert first is None
    assert holder_of(tmp_path) == other


@pytest.mark.parametrize("kind", ["finished", "taken over"])
def test_a_holder_that_wakes_up_changes_nothing(kind: str, tmp_path: Path) -> None:
    """Its heartbeat has not come yet, so that it believes that it holds the lease."""
    write_text(tmp_path / "result.json", "of the second")
    with take(tmp_path, heartbeat=100) as lease, ExitStack() as stack:
        assert lease is not None
        age(tmp_path, 61)
        assert stack.enter_context(take(tmp_path, heartbeat=100)) is not None
        if kind == "finished":
            stack.close()
        # Guards of the other holder, which is another process in life, pass while it holds the lease.
        with pytest.raises(Stopped):
            write_text(tmp_path / "result.json", "of the first")
        with pytest.raises(Stopped):
            remove(tmp_path / "result.json")
        with pytest.raises(Stopped):
            write_text(tmp_path / "checkpoint" / "00000001.json", "of the first")
        assert lease.lost
        write_text(tmp_path.with_name("elsewhere") / "file", "not of the run")
    assert (tmp_path / "result.json").read_text() == "of the second"
    assert not list((tmp_path / "checkpoint").iterdir())


def test_a_holder_whose_file_system_is_away_keeps_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with take(tmp_path, heartbeat=100) as lease:
        assert lease is not None

        def away(path: Path) -> Holder:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(lease_module, "_read", away)
            lease.check()
        assert not lease.lost


@pytest.mark.parametrize("fault", [errno.EIO, errno.EROFS])
def test_a_lease_that_cannot_be_released_is_left_until_it_is_stale(
    fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path) -> None:
        raise OSError(fault, os.strerror(fault))

    with take(tmp_path) as lease, monkeypatch.context() as patch:
        assert lease is not None
        patch.setattr(os, "unlink", unlink)
        lease.release()
    assert (tmp_path / LEASE_FILE).exists()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    with take(tmp_path) as again:
        assert again is not None
    assert not (tmp_path / LEASE_FILE).exists()
    sweep_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_twin_with_the_same_host_name_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clones of a virtual machine share the host name, the number of the PID namespace, and process numbers."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = replace(Holder.new(), process=ended.pid)
    assert mine.gone
    for twin in (replace(mine, machine="another boot"), replace(mine, machine="")):
        assert not twin.gone
        (tmp_path / LEASE_FILE).write_text(json.dumps(vars(twin)))
        with take(tmp_path) as lease:
            assert lease is None
    monkeypatch.setattr(lease_module, "machine_id", lambda: "")  # a machine that does not know which one it is
    unknown = replace(Holder.new(), process=ended.pid)
    assert not unknown.gone


def test_a_clock_that_was_set_back_does_not_block_a_run(tmp_path: Path) -> None:
    make_stale(tmp_path)
    age(tmp_path, -1000)
    assert not is_held(tmp_path)
    with take(tmp_path) as lease:
        assert lease is not None
        assert is_held(tmp_path)
    make_stale(tmp_path)
    age(tmp_path, -5)  # of a server whose clock is ahead of what this machine has cached
    assert is_held(tmp_path)


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_looking_needs_no_writing(fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(path: Path) -> None:
        raise OSError(fault, os.strerror(fault), str(path))

    with take(tmp_path):
        monkeypatch.setattr(Path, "touch", touch)
        assert is_held(tmp_path)
        age(tmp_path, 61)
        assert not is_held(tmp_path)
        age(tmp_path, -1000)  # the clock of this machine is behind that of the server: it cannot tell
        assert is_held(tmp_path)


def test_no_lease_is_left_empty_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump(content: object, file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lease_module.json, "dump", dump)
        with pytest.raises(OSError, match="No space left") as error, take(tmp_path):
            pass
    assert error.value.filename == str(tmp_path / LEASE_FILE)
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    make_stale(tmp_path)
    with take(tmp_path) as lease:
        assert lease is not None
        with take(tmp_path) as second:
            assert second is None
    assert list(tmp_path.iterdir()) == []


def test_the_lease_of_a_killed_process_is_stale_at_once_here_and_later_elsewhere(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; from ncbench.records.lease import take"
    code += "\nwith take(pathlib.Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.gone
    for other in (
        {"host": "elsewhere"},
        {"space": "another container"},
        {"process": 10**30},
    ):  # from where the process cannot be seen
        (tmp_path / LEASE_FILE).write_text(json.dumps({**vars(holder), **other}))
        with take(tmp_path) as lease:
            assert lease is None
        age(tmp_path, 61)
        assert not is_held(tmp_path)
    (tmp_path / LEASE_FILE).write_text(json.dumps(vars(holder)))
    with take(tmp_path) as lease:
        assert lease is not None
