"""What identifies files without reading them: device, inode, size, and the times of their last changes.

The time of the last change of a file itself, ctime, cannot be set by those who write files.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ncbench import __version__
from ncbench.method.registry import GROUP


def folder_state(folder: str) -> tuple[str, float] | None:
    """Return the digest of the names and identities of all files in a folder, and the time of the last change.

    None if a file cannot be looked at, or is of another kind.
    """
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            found = sorted([(entry.name, entry.stat(follow_symlinks=False)) for entry in entries])
    except OSError:
        return None
    newest = 0.0
    for _, each in found:
        if not stat.S_ISREG(each.st_mode):
            return None
        newest = max(newest, each.st_ctime)
    return digest_of([(name, *_facts(each)) for name, each in found]), newest


def identity(path: Path) -> tuple[object, ...]:
    """Return the name of a file and what identifies its content; "" for the latter if it cannot be looked at."""
    name = os.fsencode(path.name)
    try:
        return (name, *_facts(path.stat()))
    except OSError:
        return (name, "")


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def noise_files(folder: Path, name: str) -> list[Path]:
    """Return where the parts of the noise `name` may be, whose file is in `folder`."""
    return [folder / name, (folder / name).with_suffix(".json"), (folder / name).with_suffix(".splices.npy")]


def newest_noise(folder: Path, name: str) -> float:
    """Return the time of the last change of the files of a noise, 0 without any."""
    times = [0.0]
    for path in noise_files(folder, name):
        with suppress(OSError):
            times.append(path.stat().st_ctime)
    return max(times)


def digest_of(content: object) -> str:
    """Return the digest of lists of numbers, bytes and text, in hexadecimal digits."""
    return hashlib.blake2b(msgspec.msgpack.encode(content), digest_size=16).hexdigest()


@cache
def code_state() -> str:
    """Return a digest of the code that verifies: ncbench, and the files of installed methods; nothing is imported."""
    own = [identity(path) for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    methods = []
    for entry in entry_points(group=GROUP):
        top, *rest = entry.value.partition(":")[0].split(".")
        package = find_spec(top)  # the file of a package of this name; only a name with dots would be imported
        places = [Path(place) for place in (package.submodule_search_locations or ())] if package else []
        files = [place.joinpath(*rest).with_suffix(".py") for place in places] if rest else []
        files += [place / "__init__.py" for place in places] or [Path(package.origin or "")] if package else []
        methods.append((entry.name, entry.value, [identity(file) for file in files]))
    return digest_of((__version__, sys.version, own, sorted(methods)))
