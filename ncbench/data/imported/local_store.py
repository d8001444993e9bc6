"""Finding datasets in the local store by name. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.data.imported.layout import MANIFEST_FILE, store_root
from ncbench.data.same_names import told_apart
from ncbench.errors import UserError

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


@dataclass(frozen=True)
class StoredDataset:
    """A dataset in the local store."""

    name: str
    folder: Path
    summary: str
    digest: str
    needs_root: bool = False

    def load(self, root: Path | None = None) -> Dataset:
        """Return the dataset. Raises UserError if the store is damaged."""
        from ncbench.data.imported.reading import read  # loads NumPy

        return read(self.folder)


def stored_datasets() -> list[StoredDataset]:
    """Return all datasets in the local store, sorted by name. Other folders are ignored."""
    found = []
    for path in sorted(store_root().glob(f"*/*/{MANIFEST_FILE}")):
        try:
            manifest = json.loads(path.read_bytes())
            name, source, digest = (manifest[key] for key in ("name", "source", "digest"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if name == path.parents[1].name and isinstance(digest, str):
            found.append(StoredDataset(name, path.parent, f"converted from {source}", digest))
    return found


def find_stored(text: str) -> StoredDataset | None:
    """Return the stored dataset that `text`, `NAME` or `NAME@DIGEST`, refers to, or None.

    Raises UserError if several datasets with different content have that name.
    """
    name, _, digest = text.partition("@")
    found = {one.digest: one for one in stored_datasets() if one.name == name and one.digest.startswith(digest)}
    if len(found) > 1:
        labels = told_apart((name, one.digest) for one in found.values())
        each = ", ".join(f"{labels[name, one.digest]} ({one.folder})" for one in found.values())
        raise UserError(f"{len(found)} datasets in the local store are named {name!r}; use one of {each}")
    return next(iter(found.values()), None)
