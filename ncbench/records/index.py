"""What was read from the folders of runs, kept so that ten thousand of them are scanned in seconds: a cache.

`<records>/index/<name>.jsonl` holds per finished run the size and the time of change of the files that were read, and
what was made of them. An entry counts as long as these files are as they were; all others are read anew, and nothing
is lost with a file that is deleted. It is written by whoever reads more than a few runs that are not in it, and by
nobody where there are few.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncbench.records.store import read_record
from ncbench.runtime.files import write_atomic

FOLDER = "index"
FROM = 200  # runs: fewer are read as fast without
WORTH = 50  # runs that were not in it: then it is written anew
SETTLED = 3.0  # seconds after its change from which a file is sure to change its time with its content

Record = dict[str, Any]
Entry = tuple[str, list[int], Any]
"""The path of a run below the folder of records, sizes and times of its files, and what was read from them."""


def indexed_results(root: Path) -> Iterator[tuple[Path, Record, Record]]:
    """Yield (folder, result, measurements) of every finished run below `root`, in the order of their paths.

    Raises UserError for a record that cannot be read.
    """
    for folder, (result, measurements) in indexed(root, "results", ("result.json", "measurements.json"), _read_result):
        yield folder, result, measurements


def indexed(
    root: Path, name: str, files: Sequence[str], read: Callable[[Path], Any], version: int = 1
) -> Iterator[tuple[Path, Any]]:
    """Yield every folder of a finished run below `root`, in order, and what `read` makes of it.

    That must follow from `files` alone, of which the first is there, and survive JSON; `version` is to change with
    `read`. Raises what `read` raises.
    """
    path = root / FOLDER / f"{name}.jsonl"
    known, entries, fresh = _load(path, version), list[Entry](), 0
    below = len(f"{root}/")
    for place, stamp, settled in _finished(root, files):
        folder, key = Path(place), place[below:]
        found = known.pop(key, None)
        if found is None or found[1] != stamp:
            found = key, stamp, read(folder)
            fresh += 1
        if settled:
            entries.append(found)
        yield folder, found[2]
    if len(entries) >= FROM and (fresh >= WORTH or len(known) >= WORTH):
        _save(path, version, entries)


def _read_result(folder: Path) -> tuple[Record, Record]:
    measurements = folder / "measurements.json"
    return read_record(folder / "result.json"), read_record(measurements) if measurements.is_file() else {}


def _finished(root: Path, files: Sequence[str]) -> Iterator[tuple[str, list[int], bool]]:
    """Yield the folders of finished runs, sizes and times of their files, and whether one can rely on these."""
    now = time.time()
    for folder in _folders(str(root), 3):
        stamp, latest = list[int](), 0.0
        if not os.path.exists(f"{folder}/result.json"):  # noqa: PTH110 - of ten thousand, Path costs half a second
            continue
        for file in files:
            try:
                facts = os.stat(f"{folder}/{file}")  # noqa: PTH116
            except OSError:
                stamp += [0, 0]
            else:
                stamp += [facts.st_mtime_ns, facts.st_size]
                latest = max(latest, facts.st_mtime)
        yield folder, stamp, now - latest > SETTLED


def _folders(root: str, depth: int) -> Iterator[str]:
    """Yield the folders so many levels below `root`, in the order of their paths."""
    try:
        with os.scandir(root) as entries:
            paths = sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return
    for path in paths:
        yield from _folders(path, depth - 1) if depth > 1 else (path,)


def _load(path: Path, version: int) -> dict[str, Entry]:
    """Return the entries by the paths of their runs; none from a file that is not there, or is no index."""
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
        if json.loads(first) != _head(version, rest):
            return {}
        entries = map(json.loads, rest.splitlines())
        return {key: (key, stamp, content) for key, stamp, content in entries}
    except (OSError, ValueError, TypeError):
        return {}


def _save(path: Path, version: int, entries: Sequence[Entry]) -> None:
    """Write the index; who may not write there does without."""
    rest = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
    first = json.dumps(_head(version, rest)).encode()
    with suppress(OSError):
        write_atomic(path, lambda file: file.write(first + b"\n" + rest), durable=False)


def _head(version: int, rest: bytes) -> dict[str, object]:
    return {"version": version, "sha256": hashlib.sha256(rest).hexdigest()}
