"""Leases: of the processes that share a folder of records, at most one works on each run; also on network file systems.

A lease is a file that is created only if it does not exist, and whose modification time its holder keeps fresh. A lease
is stale if it has not been refreshed for STALE_SECONDS, or if its process is known to have ended on this machine. A
stale lease is moved away, which only one process can do, and created anew. Ages are measured by the clock of the file
system, so the clocks of machines need not agree.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LEASE_FILE = "claim.json"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0  # several heartbeats


@dataclass(frozen=True)
class Holder:
    """The holder of a lease: machine, PID namespace, process, and a token that is never used again."""

    host: str
    space: str
    process: int
    token: str

    @staticmethod
    def new() -> Holder:
        """Return this process with a new token."""
        return Holder(socket.gethostname(), _pid_namespace(), os.getpid(), uuid.uuid4().hex)

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; False if that cannot be seen from here."""
        if (self.host, self.space) != (socket.gethostname(), _pid_namespace()):
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """The right to work on the run in `folder` until it is released. Use `take` to get one."""

    def __init__(self, folder: Path, holder: Holder, heartbeat: float) -> None:
        self.holder = holder
        self._path, self._heartbeat = folder / LEASE_FILE, heartbeat
        self._released = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken over because this one did not refresh the lease for too long."""
        return self._lost.is_set()

    def release(self) -> None:
        """Let other processes have the run."""
        self._released.set()
        self._thread.join()
        if holder_of(self._path.parent) == self.holder:
            self._path.unlink(missing_ok=True)

    def _keep_fresh(self) -> None:
        while not self._released.wait(self._heartbeat):
            if holder_of(self._path.parent) != self.holder:
                self._lost.set()
                return
            with suppress(OSError):  # the file system may be away for a moment: try again at the next heartbeat
                os.utime(self._path)


@contextmanager
def take(
    folder: Path, *, heartbeat: float = HEARTBEAT_SECONDS, stale_after: float = STALE_SECONDS
) -> Iterator[Lease | None]:
    """Hold the lease of the run in `folder`, which is created if needed; None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = Holder.new()
    if not (_create(folder, holder) or (_clear_stale(folder, stale_after) and _create(folder, holder))):
        yield None
        return
    lease = Lease(folder, holder, heartbeat)
    try:
        yield lease
    finally:
        lease.release()


def holder_of(folder: Path) -> Holder | None:
    """Return the holder of the lease of the run in `folder`; None without a lease, or if the file does not say."""
    try:
        content = json.loads((folder / LEASE_FILE).read_bytes())
        return Holder(str(content["host"]), str(content["space"]), int(content["process"]), str(content["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_held(folder: Path, stale_after: float = STALE_SECONDS) -> bool:
    """Return whether a living process works on the run in `folder`."""
    age, holder = _age(folder), holder_of(folder)
    return age is not None and age <= stale_after and not (holder is not None and holder.gone)


def _pid_namespace() -> str:
    """Return the name of the PID namespace, within which process numbers are unique: containers have their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _create(folder: Path, holder: Holder) -> bool:
    """Create the lease unless it exists; return whether this was done."""
    try:
        with (folder / LEASE_FILE).open("x") as file:
            json.dump(vars(holder), file)
    except FileExistsError:
        return False
    except OSError as error:  # a full disk: do not leave an empty file, for which others would wait
        (folder / LEASE_FILE).unlink(missing_ok=True)
        error.filename = error.filename or str(folder / LEASE_FILE)
        raise
    return True


def _clear_stale(folder: Path, stale_after: float) -> bool:
    """Move a stale lease away; return whether this process did, or found no lease."""
    before = holder_of(folder)
    if _age(folder) is None:
        return True
    if is_held(folder, stale_after):
        return False
    away = folder / f".{LEASE_FILE}.{uuid.uuid4().hex}"
    try:
        (folder / LEASE_FILE).rename(away)
    except FileNotFoundError:
        return True
    try:
        moved = json.loads(away.read_bytes()).get("token")
    except (OSError, ValueError, AttributeError):
        moved = None
    if before is not None and moved != before.token:  # another process was faster, and this is its fresh lease
        away.rename(folder / LEASE_FILE)  # may replace the lease of a third process, which will notice
        return False
    away.unlink(missing_ok=True)
    return True


def _age(folder: Path) -> float | None:
    """Return the seconds since the last heartbeat, by the clock of the file system; None without a lease.

    Without permission to write in the folder, this machine's clock is used.
    """
    probe = folder / f".{LEASE_FILE}.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime - (folder / LEASE_FILE).stat().st_mtime
    except FileNotFoundError:
        return None
    except PermissionError:
        return _age_by_local_clock(folder)
    finally:
        with suppress(PermissionError):
            probe.unlink(missing_ok=True)


def _age_by_local_clock(folder: Path) -> float | None:
    try:
        return time.time() - (folder / LEASE_FILE).stat().st_mtime
    except OSError:
        return None
