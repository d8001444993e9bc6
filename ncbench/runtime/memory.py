"""Host memory of this process: peak, available memory, and allocator settings."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 2**30
UNKNOWN_AVAILABLE = 2**40  # reported if the system does not say how much is available
CGROUP = Path("/sys/fs/cgroup")


def keep_freed_memory() -> None:
    """Let glibc reuse freed blocks of up to 1 GiB instead of returning them to the kernel.

    Every training step allocates the same large tensors; mapping and zeroing their pages again takes longer than many
    operations on them. No effect with other C libraries.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * KEEP_BYTES - 1)


def reset_peak() -> None:
    """Reset the peak to the memory in use now. Linux only; no effect elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int | None:
    """Return the peak resident memory in bytes since `reset_peak`, or None if unknown."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def available_bytes() -> int:
    """Return the memory in bytes available to this process without swapping, or UNKNOWN_AVAILABLE."""
    free = [UNKNOWN_AVAILABLE]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        # The limit of a container. Its page cache counts as used, but can be reclaimed.
        used, limit = (int((CGROUP / name).read_text()) for name in ("memory.current", "memory.max"))
        cached = [
            int(line.split()[1]) for line in (CGROUP / "memory.stat").read_text().splitlines() if line[:5] == "file "
        ]
        free.append(limit - used + sum(cached))
    except (OSError, ValueError):  # no such files, or no limit ("max")
        pass
    return max(0, min(free))
