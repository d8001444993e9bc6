"""Peak memory of this process, and safe allocator settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ncbench.runtime import memory

PEAKS = """
import numpy as np
from ncbench.runtime import memory

memory.reset_peak()
print(memory.peak_bytes())
np.ones(64 * 2**20, np.uint8)
print(memory.peak_bytes())
print(memory.peak_bytes())
memory.reset_peak()
print(memory.peak_bytes())
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
def test_peak_counts_what_was_freed_until_it_is_reset() -> None:
    # In a new process: this one may have kept freed memory from an earlier run.
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=60, check=True)
    start, peak, later, reset = map(int, done.stdout.split())
    assert peak - start > 50 * 2**20
    assert later >= peak  # it never falls
    assert peak - reset > 50 * 2**20


@linux
def test_peak_is_at_least_what_is_resident() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert memory.peak_bytes() >= 0.9 * pages * 4096


def test_peak_is_unknown_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(Path, "write_text", fail)
    assert memory.peak_bytes() is None
    memory.reset_peak()


def test_peak_is_unknown_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: "Name:\tpython\nVmRSS:\t1 kB\n")
    assert memory.peak_bytes() is None


def test_peak_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: "Name:\tpython\nVmHWM:\t    12 kB\n")
    assert memory.peak_bytes() == 12 * 1024


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_allocator_is_left_alone_elsewhere(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda *_: pytest.fail("asked for a C library"))
    memory.keep_freed_memory()


@linux
def test_allocator_is_set_only_with_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Glibc:
        @staticmethod
        def mallopt(what: int, value: int) -> None:
            calls.append((what, value))

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda *_: Glibc)
    memory.keep_freed_memory()
    assert dict(calls) == {-3: 2**30, -1: 2**31 - 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h; both fit an int
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda *_: object())
    memory.keep_freed_memory()


@linux
def test_what_is_available_is_less_than_all_of_the_memory() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.available_bytes() < total


def test_a_container_may_take_no_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {
        "memory.current": "900\n",
        "memory.max": "1000\n",
        "memory.stat": "anon 500\nfile 400\n",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_bytes() == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 1000
    (tmp_path / "memory.max").write_text("300\n")
    assert memory.available_bytes() == 0
