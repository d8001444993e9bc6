"""Which datasets lie in the local store, by name. Loads nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.data.imported.layout import MANIFEST, store_root
from ncbench.errors import UserError

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


@dataclass(frozen=True)
class Stored:
    """A dataset that lies in the local store."""

    name: str
    folder: Path
    summary: str
    digest: str
    needs_root: bool = False

    def load(self, root: Path | None = None) -> Dataset:
        """Return the dataset. Raises UserError for a damaged store."""
        from ncbench.data.imported.reading import read

        return read(self.folder)


def stored() -> list[Stored]:
    """Return all datasets of the local store, by name. Folders that are none are passed over."""
    found = []
    for path in sorted(store_root().glob(f"*/*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_bytes())
            name, source, digest = (manifest[key] for key in ("name", "source", "digest"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if name == path.parents[1].name and isinstance(digest, str):
            found.append(Stored(name, path.parent, f"converted from {source}", digest))
    return found


def find_stored(text: str) -> Stored | None:
    """Return the dataset of the local store that `text`, `NAME` or `NAME@DIGEST`, says; None where there is none.

    Raises UserError where there are several of a name, of different content.
    """
    name, _, digest = text.partition("@")
    found = {one.digest: one for one in stored() if one.name == name and one.digest.startswith(digest)}
    if len(found) > 1:
        each = ", ".join(f"{name}@{one.digest[:8]} ({one.folder})" for one in found.values())
        raise UserError(f"{len(found)} datasets in the local store are called {name!r}: {each}; say which")
    return next(iter(found.values()), None)
