"""Records from several places: folders of records, and submissions, which are unpacked once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ncbench.data.cache import cache_root, make_folder
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.records.submission import MAX_BYTES, read_submission, unpack
from ncbench.runtime.bounded import read_bytes


def records_folder(path: Path) -> Path:
    """Return the folder of records at `path`: a folder itself, or where a submission is unpacked, in the user's cache.

    Raises UserError for anything else, for an invalid submission, and if the cache cannot be written.
    """
    if path.is_dir():
        return path
    read_submission(path)
    digest = hashlib.sha256(read_bytes(path, MAX_BYTES)).hexdigest()
    folder = cache_root() / "submissions" / digest
    if not folder.is_dir():
        make_folder(folder, lambda building: unpack(path, building))
    return folder


def results_of(folders: Sequence[Path]) -> Iterator[Record]:
    """Yield the finished runs in all `folders`, one after another; of runs with one id, the first.

    Raises UserError as `Store.results`.
    """
    seen = set[str]()
    for folder in folders:
        for record in Store(folder).results():
            if record.folder.name not in seen:
                seen.add(record.folder.name)
                yield record
