"""Devices: choosing one, waiting for it, its memory."""

from __future__ import annotations

import torch

from ncbench.errors import UserError, unknown_name
from ncbench.runtime import memory

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes CUDA where there is any. Raises UserError for one not present."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in present:
        raise unknown_name("device", name, DEVICES)
    if not present[name]:
        raise UserError(
            f"--device {name}: there is none here; present: {', '.join(k for k, v in present.items() if v)}."
        )
    return torch.device(name)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was asked, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """Return the peak memory in bytes of the host process and of the device."""
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host": memory.peak_bytes(), "device": on_device}


def free_bytes(device: torch.device) -> int:
    """Return the bytes that may still be taken on a device; those that torch keeps for itself count as free."""
    if device.type == "cuda":
        free, present = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        allowed = int(torch.cuda.get_per_process_memory_fraction(device) * present)
        return max(0, min(free, allowed - reserved)) + reserved - torch.cuda.memory_allocated(device)
    return memory.available_bytes()  # MPS shares the memory of the host


def cap_memory(device: torch.device, most: int) -> None:
    """Refuse this process more than `most` bytes of the memory of a device. Raises UserError where that is no limit."""
    if device.type != "cuda":
        raise UserError(f"--max-memory caps the memory of a CUDA device; this run is on {device.type}.")
    present = torch.cuda.mem_get_info(device)[1]
    if most > present:
        raise UserError(f"--max-memory: {device} has {present / 2**30:.1f} GiB, found {most / 2**30:.1f} GiB.")
    torch.cuda.set_per_process_memory_fraction(most / present, device)
