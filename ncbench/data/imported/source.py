"""The dataset source of imported datasets: converted on first use, then read from the local store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ncbench.data.cache import make_folder
from ncbench.data.dataset import Dataset
from ncbench.data.imported.layout import CONVERSION, SKIPPED_FILE, STORE_FORMAT, store_root
from ncbench.data.imported.reading import read
from ncbench.data.imported.request import Request, read_request
from ncbench.data.model_tokeniser import tokenizer_file
from ncbench.data.stamps import stamp
from ncbench.errors import UserError

_log = logging.getLogger(__name__)


class Imported:
    """The dataset of a `request`, converted into the local store on first use."""

    needs_root = False

    def __init__(self, request: Request) -> None:
        self.request = request
        self.name = request.title
        self.summary = f"converted from {request.source}"

    def load(self, root: Path | None = None) -> Dataset:
        """Return the dataset. Raises UserError if the source is missing or malformed, or the store is damaged."""
        return read(self.folder())

    def folder(self) -> Path:
        """Return the dataset's folder in the store, after converting it if necessary. Raises UserError."""
        # Not at the top, as these load pyarrow.
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


def skipped_of(text: str) -> tuple[Path, Sequence[str]] | None:
    """Return the list of the pictures that were left out of a requested dataset, and its lines; None if none were."""
    file = source_of(text).folder() / SKIPPED_FILE
    return (file, file.read_text(encoding="utf-8").splitlines()) if file.exists() else None


def source_of(text: str) -> Imported:
    """Return the dataset that `hf:...` or a configuration file requests. Raises UserError."""
    return Imported(read_request(text))


def _key(request: Request, files: Sequence[Path]) -> str:
    """Return 12 hex digits that identify the inputs of a conversion; files by size and modification time."""
    of_files = [(str(one.path), one.size, one.changed) for one in stamp(files)]
    if request.vocabulary:
        of_files.append((request.vocabulary, *_size_and_time(Path(request.vocabulary))))
    if request.tokenizer and (file := tokenizer_file(request.tokenizer)) is not None:
        of_files.append((request.tokenizer, *_size_and_time(file)))
    facts = {
        "format": STORE_FORMAT,
        "conversion": CONVERSION,
        "request": asdict(request),
        "source": str(request.path),
        "files": of_files,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected JSON") from error
    return facts.st_size, facts.st_mtime_ns
