"""The machine and software environment of a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from ncbench import __version__
from ncbench.runtime.guard import refuse_if_guarded

PACKAGES = ("numpy", "pot", "torch")
NVIDIA = Path("/proc/driver/nvidia/version")

_hidden: list[str] = []


def describe(device: torch.device) -> dict[str, object]:
    """Return the environment as recorded with run times: software, machine, threads, command line, commit."""
    return {
        "ncbench": __version__,
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "driver": _driver() if device.type == "cuda" else None,
        "command": command(),
        "commit": commit(),
    }


def command() -> list[str]:
    """Return the command line of this process. Raises Refused if a method asks: it may name the noise."""
    refuse_if_guarded("read the command line")
    program, *words = _hidden or sys.argv
    return [Path(program).name, *words]


def hide_command() -> None:
    """Leave only the name of the program in `sys.argv`; `command` still returns all of it."""
    _hidden[:] = _hidden or sys.argv
    del sys.argv[1:]


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@cache
def processor() -> str:
    """Return the model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _driver() -> str | None:
    """Return the version line of the NVIDIA driver, or None if unknown. Linux only."""
    try:
        return NVIDIA.read_text().partition("\n")[0]
    except OSError:
        return None


@cache
def commit() -> str | None:
    """Return the git commit of the checkout that this package runs from, with `+` for local changes; else None.

    Cached, because later changes to the checkout do not affect the code that this process has loaded.
    """
    here = Path(__file__).parent
    try:
        head, status = (
            subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")
