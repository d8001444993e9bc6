"""Records that were consistent when they were last verified, so that looking at ten thousand does not read them all.

What is remembered is the identity of every file of a record and of its noise: device, inode, size, and the times of the
last change of content and of the file itself. The last one, ctime, cannot be set by those who write files. The memory
is in the cache of the user, not beside the records: those may come from others. It holds for one state of the code of
ncbench and of installed methods. A record with a problem is never remembered. `ncbench verify` does not use it.

Beside each record is its row in the table of runs. What `ncbench runs` lists of a whole folder is kept as well.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from ncbench.data.cache import cache_root
from ncbench.data.kept import Kept
from ncbench.errors import UserError
from ncbench.records.record import Record
from ncbench.records.states import code_state, digest_of, folder_state, identity, newest_noise, noise_files
from ncbench.records.store import Store
from ncbench.runtime.bounded import read_bytes
from ncbench.runtime.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 64 * 2**20
SETTLED_SECONDS = 5.0
"""Files that changed later than this before they were read may change again without a sign: clocks tick slowly."""
MIN_RECORDS = 20
"""For fewer records nothing is remembered: to verify them takes no time."""

Text = Annotated[str, Meta(max_length=200)]


class _Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The digest of the files of a record, the name of its noise, the digest of the files of that, and its row.

    The digest is "" without noise, and the row {} where nobody asked for it.
    """

    files: Text
    noise: Text
    noise_files: Text
    row: dict[str, Any]


class _Memory(msgspec.Struct, frozen=True):
    """Entries by the path of the record below the folder of records, and the state of the code that verified them."""

    code: Text
    records: dict[str, _Entry]


class _Listing(msgspec.Struct, frozen=True):
    """Columns of the table of runs, row by row, and the digest of all that they depend on."""

    digest: Text
    rows: list[dict[Any, Any]]


class Remembered:
    """Verifies records below `root`, except those that were consistent and have not changed since."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:24]
        self._path = cache_root() / "verified" / f"{self._name}.msgpack"
        self._code = code_state()
        self._found: dict[str, _Entry] = {}
        self._changed = False
        self._states: dict[Path, tuple[str, float] | None] = {}
        self._rows: dict[Path, dict[str, Any]] = {}
        self._noises: dict[tuple[str, str], str] = {}
        self._links: dict[str, bool] = {}

    @cached_property
    def _known(self) -> dict[str, _Entry]:
        return _read(self._path, self._code)

    def listing(self, columns: Sequence[str], load: Callable[[], pd.DataFrame]) -> list[dict[Any, Any]]:
        """Return `columns` of the table of all runs below `root`, row by row; `load` loads it if a record has changed.

        Raises what `load` raises.
        """
        folders = [record.folder for record in Store(Path(self._root)).results()]
        digest, kept = self._digest(folders, columns), Kept("listings")
        found = kept.get(self._name, _Listing)
        if digest and found is not None and found.digest == digest:
            return found.rows
        rows: list[dict[Any, Any]] = load()[[*columns]].to_dict(orient="records")
        if digest and all(_name(folder) in self._found for folder in folders):
            kept.put(self._name, _Listing(digest, rows))
        return rows

    def _digest(self, folders: Sequence[Path], columns: Sequence[str]) -> str:
        """Return the digest of all that a listing depends on; "" if one of the records cannot be remembered."""
        names, states = [*map(str, folders)], [self._state(folder) for folder in folders]
        noises = {Path(method).parent / "noise" for method in {*map(os.path.dirname, names)}}
        shared = [(os.fsencode(noise), folder_state(str(noise))) for noise in sorted(noises) if noise.exists()]
        if len(folders) < MIN_RECORDS or None in states or any(state is None for _, state in shared):
            return ""
        return digest_of((self._code, [*columns], [*map(os.fsencode, names)], states, shared))

    def row(self, record: Record, read: Callable[[Record], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of a record in the table of runs: what `read` returns, for a record that has changed."""
        known = self._unchanged(record.folder)
        if known is not None and known.row:
            return {**known.row, "folder": str(record.folder)}
        row = self._rows[record.folder] = read(record)
        return row

    def verify(self, folder: Path) -> list[str]:
        """Return the problems of the record in `folder`, as `verify_run` does."""
        name, known, now = _name(folder), self._unchanged(folder), time.time()
        if known is not None:
            row = self._rows.get(folder)
            self._changed |= row is not None
            self._found[name] = known if row is None else msgspec.structs.replace(known, row=row)
            return []
        before = self._state(folder)
        from ncbench.records.verification import verify_run

        problems = verify_run(folder)
        if problems or before is None or os.path.realpath(folder) != f"{self._root}/{name}":
            return problems
        self._remember(folder, name, before, now)
        return problems

    def state(self, folder: Path) -> str:
        """Return what identifies the files of a record that was found consistent, and of its noise; "" for another."""
        entry = self._found.get(_name(folder))
        return "" if entry is None else f"{entry.files} {entry.noise_files}"

    def _unchanged(self, folder: Path) -> _Entry | None:
        """Return what is known of a record, unless its files or those of its noise have changed since."""
        known, state = self._known.get(_name(folder)), self._state(folder)
        alike = state is not None and known is not None and known.files == state[0]
        return known if known and alike and known.noise_files == self._noise_state(folder, known.noise) else None

    def _state(self, folder: Path) -> tuple[str, float] | None:
        """Return what `folder_state` said of a record when it was first looked at; None for links."""
        if folder not in self._states:
            path = str(folder)
            self._states[folder] = None if self._is_linked(path) else folder_state(path)
        return self._states[folder]

    def _is_linked(self, path: str) -> bool:
        """Return whether the folder of a record, or one of the two above, is or may be a link: its name can change."""
        above = os.path.dirname(path)  # noqa: PTH120 - ten thousand paths
        if above not in self._links:
            self._links[above] = Path(above).is_symlink() or Path(above).parent.is_symlink()
        try:
            return self._links[above] or stat.S_ISLNK(os.lstat(path).st_mode)
        except OSError:  # verifying says what is wrong
            return True

    def _remember(self, folder: Path, name: str, before: tuple[str, float], now: float) -> None:
        """Remember a consistent record, if its files cannot have changed while it was read."""
        with suppress(UserError):
            noise = Record(folder).noise_path.name
            entry = _Entry(before[0], noise, self._noise_state(folder, noise), self._rows.get(folder, {}))
            newest = max(before[1], newest_noise(folder.parents[1] / "noise", noise))
            if newest < now - SETTLED_SECONDS and folder_state(str(folder)) == before:
                self._found[name], self._changed = entry, True

    def _noise_state(self, folder: Path, name: str) -> str:
        """Return the digest of the files of a noise, which records share: looked at once."""
        dataset = folder.parts[-3]
        if (dataset, name) not in self._noises:
            files = noise_files(folder.parents[1] / "noise", name)
            self._noises[dataset, name] = digest_of([identity(file) for file in files])
        return self._noises[dataset, name]

    def save(self) -> None:
        """Write what is remembered now; a cache that cannot be written is none."""
        if len(self._found) < MIN_RECORDS or (not self._changed and len(self._found) == len(self._known)):
            return
        with suppress(OSError):
            content = msgspec.msgpack.encode(_Memory(self._code, self._found))
            write_atomic(self._path, lambda file: file.write(content), durable=False)


def _name(folder: Path) -> str:
    """Return the path of a record below the folder of records."""
    return "/".join(folder.parts[-3:])


@contextmanager
def remembering(root: Path) -> Iterator[Remembered]:
    """Verify records below `root` in this block; what was verified is remembered even if the block fails."""
    remembered = Remembered(root)
    try:
        yield remembered
    finally:
        remembered.save()


def _read(path: Path, code: str) -> dict[str, _Entry]:
    """Return the entries in a file of the cache; none if it is damaged, or if other code wrote it."""
    try:
        memory = msgspec.msgpack.decode(read_bytes(path, MAX_BYTES), type=_Memory)
    except (OSError, ValueError, RecursionError):
        return {}
    return memory.records if memory.code == code else {}
