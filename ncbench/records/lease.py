"""Claims: of several processes that share a folder of runs, one works on each run; on a network file system too.

A claim is a file that is created only where there is none, and whose time of change its holder keeps fresh. One that
has not been refreshed for STALE seconds belongs to a process that died, as does one whose process is seen to be gone
where it ran: it is moved away, which only one process can do, and made anew. Times are those of the file system, so
that clocks of machines need not agree.
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

NAME = "claim.json"
BEAT = 10.0  # seconds between two signs of life
STALE = 60.0  # seconds without one after which a claim is void: several missed ones


@dataclass(frozen=True)
class Holder:
    """Who holds a claim: a machine, where on it processes know each other, a process, and a name that is used once."""

    host: str
    space: str
    process: int
    token: str

    @staticmethod
    def new() -> Holder:
        """Return this process, under a name of its own."""
        return Holder(socket.gethostname(), _space(), os.getpid(), uuid.uuid4().hex)

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; False where that cannot be seen from here."""
        if (self.host, self.space) != (socket.gethostname(), _space()):
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


class Claim:
    """The right to work on the run in `folder`, while it is held; `take` is the way to have one."""

    def __init__(self, folder: Path, holder: Holder, beat: float) -> None:
        self._path, self._holder, self._beat = folder / NAME, holder, beat
        self._given_up = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken over, as it does where there was no sign of life for too long."""
        return self._lost.is_set()

    def give_up(self) -> None:
        """Let others have the run."""
        self._given_up.set()
        self._thread.join()
        if holder_of(self._path.parent) == self._holder:
            self._path.unlink(missing_ok=True)

    def _keep_fresh(self) -> None:
        while not self._given_up.wait(self._beat):
            if holder_of(self._path.parent) != self._holder:
                self._lost.set()
                return
            with suppress(OSError):  # a file system that is away for a moment; the next beat may reach it
                os.utime(self._path)


@contextmanager
def take(folder: Path, *, beat: float = BEAT, stale: float = STALE) -> Iterator[Claim | None]:
    """Hold the claim of the run in `folder`, which is created if need be; None where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = Holder.new()
    if not (_create(folder, holder) or (_clear_stale(folder, stale) and _create(folder, holder))):
        yield None
        return
    claim = Claim(folder, holder, beat)
    try:
        yield claim
    finally:
        claim.give_up()


def holder_of(folder: Path) -> Holder | None:
    """Return who holds the claim of the run in `folder`; None where nobody does, or the file does not say."""
    try:
        content = json.loads((folder / NAME).read_bytes())
        return Holder(str(content["host"]), str(content["space"]), int(content["process"]), str(content["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_held(folder: Path, stale: float = STALE) -> bool:
    """Return whether a living process works on the run in `folder`."""
    age, holder = _age(folder), holder_of(folder)
    return age is not None and age <= stale and not (holder is not None and holder.gone)


def _space() -> str:
    """Return the name of what process numbers are unique in, on this machine: containers have one each."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _create(folder: Path, holder: Holder) -> bool:
    """Create the claim, if there is none; return whether it was."""
    try:
        with (folder / NAME).open("x") as file:
            json.dump(vars(holder), file)
    except FileExistsError:
        return False
    except OSError as error:  # a full disk: nothing empty must stay, which others would wait for
        (folder / NAME).unlink(missing_ok=True)
        error.filename = error.filename or str(folder / NAME)
        raise
    return True


def _clear_stale(folder: Path, stale: float) -> bool:
    """Move a stale claim away; return whether this process did, or found none."""
    before = holder_of(folder)
    if _age(folder) is None:
        return True
    if is_held(folder, stale):
        return False
    away = folder / f".{NAME}.{uuid.uuid4().hex}"
    try:
        (folder / NAME).rename(away)
    except FileNotFoundError:
        return True
    try:
        moved = json.loads(away.read_bytes()).get("token")
    except (OSError, ValueError, AttributeError):
        moved = None
    if before is not None and moved != before.token:  # another process was faster, and this is its fresh claim
        away.rename(folder / NAME)  # in the place of a third one, whose holder will notice
        return False
    away.unlink(missing_ok=True)
    return True


def _age(folder: Path) -> float | None:
    """Return the seconds since the claim's last sign of life, by the clock of the file system; None without a claim.

    Who may not write there has this machine's clock.
    """
    probe = folder / f".{NAME}.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime - (folder / NAME).stat().st_mtime
    except FileNotFoundError:
        return None
    except PermissionError:
        return _age_here(folder)
    finally:
        with suppress(PermissionError):
            probe.unlink(missing_ok=True)


def _age_here(folder: Path) -> float | None:
    try:
        return time.time() - (folder / NAME).stat().st_mtime
    except OSError:
        return None
