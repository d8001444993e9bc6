"""Which machine this is, and which of its processes are alive."""

from __future__ import annotations

import os
import platform
import uuid
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RANDOM_OR_LOCAL = 0b11 << 40  # bits of a MAC address that is not unique: multicast, and locally administered


@cache
def machine_id() -> str:
    """Return a name that no other machine has, or "" if none is known.

    On Linux, this is the id of the boot: host names, and the numbers of initial PID namespaces, are the same on many
    machines, and clones of a virtual machine share even their `/etc/machine-id`. On other systems, it is the address of
    a network card, unless that is made up, as in containers.
    """
    if platform.system() == "Linux":
        try:
            return BOOT_ID.read_text().strip()
        except OSError:
            return ""
    address = uuid.getnode()
    return "" if address & _RANDOM_OR_LOCAL else f"{address:012x}"


def pid_namespace() -> str:
    """Return the name of the PID namespace, within which process numbers are unique: containers have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        return ""


def has_ended(process: int) -> bool:
    """Return whether no process of this machine and PID namespace has the number `process`."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
