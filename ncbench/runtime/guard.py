"""Refuses things to code that must not see what else is in this process: its objects, files and other processes.

Code in a guarded thread, and in threads that it starts, may not list the objects of the process or the frames of other
threads, open or list files below the places that were closed to it, or start processes. Python modules can be imported
from everywhere. This keeps out what reads around, not what attacks the interpreter: `ctypes` and libraries that open
files on their own are not seen.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

LISTS_OBJECTS = {"gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames"}
READS_PLACES = {"open", "os.listdir", "os.scandir", "shutil.copyfile", "os.link", "os.symlink", "os.rename"}
STARTS_PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
WATCHED = {*LISTS_OBJECTS, *READS_PLACES, *STARTS_PROCESSES}
CODE = (".py", ".pyc", ".so")

_idents: set[int] = set()
_threads: WeakSet[threading.Thread] = WeakSet()
_closed: set[str] = set()
_refusals: list[str] = []
_installed = False
_start, _start_new_thread = threading.Thread.start, _thread.start_new_thread


class Refused(RuntimeError):  # noqa: N818 - says what happened
    """Guarded code did something that it may not do."""


def guard_this_thread() -> None:
    """Guard this thread from now on, and all threads that it starts."""
    global _installed
    if not _installed:
        _installed = True
        count_cores()
        sys.addaudithook(_hook)
        threading.Thread.start = _started  # type: ignore[assignment, method-assign]
        _thread.start_new_thread = _refused_thread
    _idents.add(threading.get_ident())


def count_cores() -> None:
    """Have joblib count the cores, in a process that it starts once: scikit-learn asks for them during a fit."""
    from joblib import cpu_count  # here, as most commands guard nothing

    cpu_count(only_physical_cores=True)


def release_this_thread() -> None:
    """End the guard of this thread, at its end: its number may be given to another."""
    _idents.discard(threading.get_ident())


def close_places(places: Iterable[str | os.PathLike[str]]) -> None:
    """Close files and folders, and what is below them, to guarded threads."""
    _closed.update(os.path.realpath(place) for place in places)


def refuse_if_guarded(what: str) -> None:
    """Raise Refused, saying that a method may not do `what`, in a guarded thread."""
    if _guarded():
        raise _refusal(f"a method may not {what}")


def take_refusals() -> list[str]:
    """Return what was refused since the last call: guarded code may have caught the exception."""
    taken, _refusals[:] = list(_refusals), []
    return taken


def _refusal(words: str) -> Refused:
    _refusals.append(words)
    return Refused(words)


def _guarded() -> bool:
    ident = threading.get_ident()
    return ident in _idents or threading._active.get(ident) in _threads  # type: ignore[attr-defined]


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in WATCHED or not _guarded():
        return
    if event in LISTS_OBJECTS:
        raise _refusal(f"a method may not look at the objects of the process ({event})")
    if event in STARTS_PROCESSES:
        raise _refusal(f"a method may not start a process ({event})")
    for path in args[:2] if event != "open" else args[:1]:
        _check_place(path)


def _started(thread: threading.Thread) -> None:
    """Start a thread, guarded if this one is. (That a thread starts is no audit event before Python 3.12.)"""
    if _guarded():
        _threads.add(thread)
    _start(thread)


def _refused_thread(*args: Any) -> int:
    """Start a thread that is no `threading.Thread`, which could not be guarded."""
    refuse_if_guarded("start a thread without a threading.Thread")
    return _start_new_thread(*args)


def _check_place(path: object) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    name = os.path.realpath(os.fsdecode(path))
    if name.endswith(CODE):
        return
    if name.startswith("/proc/") and _tells_of_the_process(name):
        raise _refusal(f"a method may not read {os.fsdecode(path)}")
    for place in _closed:
        if name == place or name.startswith(place.rstrip(os.sep) + os.sep):
            raise _refusal(f"a method may not read {os.fsdecode(path)}: it is below {place}")


def _tells_of_the_process(name: str) -> bool:
    """Return whether a file below /proc tells how a process was started or what it holds."""
    return name.split("/")[2].isdigit() and name.split("/")[-1] not in ("status", "stat", "statm", "cgroup", "maps")
