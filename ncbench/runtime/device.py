"""Compute devices: selection, synchronisation and memory."""

from __future__ import annotations

import os

import torch

from ncbench.errors import UserError, unknown_name
from ncbench.runtime import memory

# Ask the driver's management library whether there is a device: asking CUDA itself would leave forks of this process
# without it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return the device `name`; `auto` is CUDA if available, else the CPU. Raises UserError if not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in present:
        raise unknown_name("device", name, DEVICES)
    if not present[name]:
        available = ", ".join(device for device, is_present in present.items() if is_present)
        raise UserError(f"--device {name}: not available on this machine; available: {available}")
    return torch.device(name)


def synchronise(device: torch.device) -> None:
    """Wait until all work queued on the device is done, so that it can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """Return the peak memory in bytes of this process on the host and on the device."""
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host": memory.peak_bytes(), "device": on_device}


def free_bytes(device: torch.device) -> int:
    """Return the available memory of a device in bytes, including memory cached by torch."""
    if device.type == "cuda":
        free, present = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        allowed = int(torch.cuda.get_per_process_memory_fraction(device) * present)
        return max(0, min(free, allowed - reserved)) + reserved - torch.cuda.memory_allocated(device)
    return memory.available_bytes()  # MPS shares the memory of the host


def check_cap(device: torch.device) -> None:
    """Raise UserError unless the memory of this device can be limited. Does not use the device."""
    if device.type != "cuda":
        raise UserError(f"--max-memory requires a CUDA device, found {device.type}")


def cap_memory(device: torch.device, limit: int) -> None:
    """Limit the device memory of this process to `limit` bytes. Raises UserError unless the device has that much."""
    check_cap(device)
    present = torch.cuda.mem_get_info(device)[1]
    if limit > present:
        raise UserError(f"--max-memory: {device} has {present / 2**30:.1f} GiB, found {limit / 2**30:.1f} GiB")
    torch.cuda.set_per_process_memory_fraction(limit / present, device)
