"""Datasets from elsewhere as the harness sees them: converted on first use, then read from the local store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ncbench.data.cache import make_folder
from ncbench.data.dataset import Dataset
from ncbench.data.imported.layout import FORMAT, store_root
from ncbench.data.imported.reading import read
from ncbench.data.imported.request import Request, read_request
from ncbench.data.stamps import stamp
from ncbench.errors import UserError

_log = logging.getLogger(__name__)


class Imported:
    """A dataset that `request` asks for: converted into the local store first if it is not there."""

    needs_root = False

    def __init__(self, request: Request) -> None:
        self.request = request
        self.name = request.title
        self.summary = f"converted from {request.source}"

    def load(self, root: Path | None = None) -> Dataset:
        """Return the dataset. Raises UserError for a source that is missing or malformed, and a damaged store."""
        return read(self.folder())

    def folder(self) -> Path:
        """Return the folder of the store that holds the dataset, which is made first if need be. Raises UserError."""
        from ncbench.data.imported.convert import convert
        from ncbench.data.imported.tables import open_tables, source_files

        folder = store_root() / self.name / _key(self.request, source_files(self.request))
        if not folder.exists():
            _log.info("converting %s into %s (once)", self.request.source, folder)
            path = self.request.path
            root = path.parent if path is not None and path.is_file() else path
            tables = open_tables(self.request)
            make_folder(folder, lambda building: convert(self.request, tables, root, building))
        return folder


def source_of(text: str) -> Imported:
    """Return the dataset that `hf:...` or a configuration file asks for. Raises UserError."""
    return Imported(read_request(text))


def _key(request: Request, files: Sequence[Path]) -> str:
    """Return twelve hex digits of all that the content of a folder follows from; a file by its size and time."""
    of_files = [(str(one.path), one.size, one.changed) for one in stamp(files)]
    if request.vocabulary:
        of_files.append((request.vocabulary, *_size_and_time(Path(request.vocabulary))))
    facts = {"format": FORMAT, "request": asdict(request), "source": str(request.path), "files": of_files}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a vocabulary (JSON) is needed") from error
    return facts.st_size, facts.st_mtime_ns
