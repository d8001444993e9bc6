"""Memory of this process: its peak, what it may still take, and keeping what was freed."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30
PLENTY = 2**40
CGROUP = Path("/sys/fs/cgroup")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB for the next allocation, instead of returning them to the kernel.

    Every training step allocates the same large tensors; mapping and zeroing their pages anew takes longer than many
    of the operations on them. Does nothing where the C library is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES - 1)


def reset_peak() -> None:
    """Let the peak start anew at what is in use now, where the system allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int | None:
    """Return the peak of resident memory in bytes since `reset_peak`, or None where it is not known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def available_bytes() -> int:
    """Return the bytes that this process may still take, without swapping; PLENTY where the system does not tell."""
    free = [PLENTY]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        # In a container, its limit; files that it has cached count as used, but can be given up.
        used, limit = (int((CGROUP / name).read_text()) for name in ("memory.current", "memory.max"))
        cached = [
            int(line.split()[1]) for line in (CGROUP / "memory.stat").read_text().splitlines() if line[:5] == "file "
        ]
        free.append(limit - used + sum(cached))
    except (OSError, ValueError):  # no such files, or no limit ("max")
        pass
    return max(0, min(free))
