"""Leases: of the processes that share a folder of records, at most one works on each run; also on network file systems.

A lease is a file that is created only if it does not exist, and whose modification time its holder keeps fresh. A lease
is stale if it has not been refreshed for STALE_SECONDS, or if its process is known to have ended on this machine. Ages
are measured by the clock of the file system, so the clocks of machines need not agree.

Whoever removes or replaces a lease must first create the successor file of its token, which only one process can do. So
of many processes that find a stale lease, one takes it over, and a holder cannot release a lease that is being taken.
A process may still be suspended for so long that it loses its lease: before each file of the run is replaced or removed
it looks whether the lease is still its own, and leaves the run alone otherwise.
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

from ncbench.runtime.files import guarded, make_folder
from ncbench.runtime.machine import has_ended, machine_id, pid_namespace
from ncbench.runtime.signals import Stopped

LEASE_FILE = "claim.json"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0  # several heartbeats
_MAX_BYTES = 1 << 12  # of a lease: others are damaged


@dataclass(frozen=True)
class Holder:
    """The holder of a lease: host, PID namespace, process, a token that is never used again, and the machine.

    `machine` is "" if it is unknown (`ncbench.runtime.machine.machine_id`), as in leases of older versions.
    """

    host: str
    space: str
    process: int
    token: str
    machine: str = ""

    @staticmethod
    def new() -> Holder:
        """Return this process with a new token."""
        return Holder(socket.gethostname(), pid_namespace(), os.getpid(), uuid.uuid4().hex, machine_id())

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; False if that cannot be seen from here."""
        here = machine_id() and (self.machine, self.host, self.space) == (
            machine_id(),
            socket.gethostname(),
            pid_namespace(),
        )
        return bool(here) and has_ended(self.process)

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

    def check(self) -> None:
        """Raise Stopped if the lease is lost, by looking at its file."""
        if not self._lost.is_set() and self._is_taken():
            self._lost.set()
        if self._lost.is_set():
            raise Stopped

    def release(self) -> None:
        """Let other processes have the run. Without access to the file system, the lease remains until it is stale."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if not self._is_taken() and self._may_remove():
                try:
                    os.unlink(self._path)  # noqa: PTH108 - tests make calls of `os` fail
                finally:
                    _successor(self._path, self.holder).unlink(missing_ok=True)

    def _may_remove(self) -> bool:
        try:
            return _succeed(self._path, self.holder, Holder.new())
        except OSError:  # a full disk: nobody else can take over either
            return True

    def _keep_fresh(self) -> None:
        while not self._released.wait(self._heartbeat):
            if self._is_taken():
                self._lost.set()
                return
            with suppress(OSError):  # the file system may be away for a moment: try again at the next heartbeat
                os.utime(self._path)

    def _is_taken(self) -> bool:
        """Return whether the file says so; it may be unreadable for a moment, on a file system that is away."""
        try:
            return _read(self._path) != self.holder
        except FileNotFoundError:
            return True
        except OSError:
            return False


@contextmanager
def take(
    folder: Path, *, heartbeat: float = HEARTBEAT_SECONDS, stale_after: float = STALE_SECONDS
) -> Iterator[Lease | None]:
    """Hold the lease of the run in `folder`, which is created if needed; None if another process holds it.

    If the lease is lost meanwhile, no file below `folder` is replaced or removed any more (`ncbench.runtime.files`):
    the attempt raises Stopped.
    """
    make_folder(folder)
    holder = Holder.new()
    if not (_create(folder / LEASE_FILE, holder) or _take_over(folder, holder, stale_after)):
        yield None
        return
    lease = Lease(folder, holder, heartbeat)
    try:
        with guarded(folder, lease.check):
            yield lease
    finally:
        lease.release()


def holder_of(folder: Path) -> Holder | None:
    """Return the holder of the lease of the run in `folder`; None without a lease, or if the file does not say."""
    try:
        return _read(folder / LEASE_FILE)
    except OSError:
        return None


def is_held(folder: Path, stale_after: float = STALE_SECONDS) -> bool:
    """Return whether a living process works on the run in `folder`."""
    return _is_fresh(folder / LEASE_FILE, stale_after)


def _read(path: Path) -> Holder | None:
    """Return the holder that a lease names, None if it does not say. Raises OSError."""
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES)
    try:
        content = json.loads(text)
        host, space, token = (str(content[key]) for key in ("host", "space", "token"))
        return Holder(host, space, int(content["process"]), token, str(content.get("machine", "")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _create(path: Path, holder: Holder) -> bool:
    """Create a lease with all its content, unless it exists; return whether this was done. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{holder.token}.tmp")
    try:
        with temporary.open("x") as file:
            json.dump(vars(holder), file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create_in_place(path, holder)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def _create_in_place(path: Path, holder: Holder) -> bool:
    try:
        with path.open("x") as file:
            json.dump(vars(holder), file)
    except FileExistsError:
        return False
    except OSError:  # a full disk: do not leave an empty file, for which others would wait
        with suppress(OSError):
            path.unlink()
        raise
    return True


def _successor(path: Path, holder: Holder | None) -> Path:
    """Return the file that a process creates before it removes or replaces the lease of `holder`."""
    return path.with_name(f".{path.name}.after-{_token(holder)[:32]}.tmp")


def _token(holder: Holder | None) -> str:
    token = holder.token if holder is not None else ""
    return token if token.isalnum() and token.isascii() else "damaged"


def _succeed(path: Path, old: Holder | None, new: Holder) -> bool:
    """Get the sole right to remove or replace the lease of `old`, while it is there; return whether `new` has it."""
    successor = _successor(path, old)
    if not _create(successor, new):
        return False
    try:
        if _read(path) == old:
            return True
    except FileNotFoundError:
        pass
    successor.unlink(missing_ok=True)
    return False


def _take_over(folder: Path, holder: Holder, stale_after: float) -> bool:
    """Replace a stale lease by that of `holder`; return whether this was done. Raises OSError.

    The successor file holds the new lease, and is renamed: what the file says afterwards is true for all processes.
    """
    path = folder / LEASE_FILE
    try:
        old = _read(path)
    except FileNotFoundError:  # released just now
        return _create(path, holder)
    if _is_fresh(path, stale_after):
        return False
    if not _succeed(path, old, holder):
        successor = _successor(path, old)
        if not successor.exists() or _is_fresh(successor, stale_after):
            return False
        # Its process has ended on the way. Two processes may get here: the renaming below decides.
        with suppress(FileNotFoundError):
            successor.unlink()
        if not _succeed(path, old, holder):
            return False
    with suppress(FileNotFoundError):
        os.replace(_successor(path, old), path)  # noqa: PTH105 - tests make calls of `os` fail
        os.utime(path)
    try:
        return _read(path) == holder
    except FileNotFoundError:
        return False


def _is_fresh(path: Path, stale_after: float) -> bool:
    """Return whether the lease at `path` is there, refreshed in the last seconds, and not of a process that has ended.

    A time that lies as far in the future is no sign of life either: the clock was set back.
    """
    age = _age(path)
    if age is None or abs(age) > stale_after:
        return False
    try:
        holder = _read(path)
    except OSError:
        return True
    return holder is None or not holder.gone


def _age(path: Path) -> float | None:
    """Return the seconds since the last heartbeat, by the clock of the file system; None without a lease.

    Where no file can be created, such as on a disk that is full or mounted for reading, this machine's clock is used.
    """
    try:
        refreshed = path.stat().st_mtime
    except OSError:
        return None
    probe = path.with_name(f".{LEASE_FILE}.{uuid.uuid4().hex}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - refreshed
    except OSError:
        return max(0.0, time.time() - refreshed)
    finally:
        with suppress(OSError):
            probe.unlink()
