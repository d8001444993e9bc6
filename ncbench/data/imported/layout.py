"""The local store of imported datasets: its folder, and the names of its files. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from ncbench.data.cache import cache_root

STORE_FORMAT = 1
"""Version of the folder layout. Increase it when the files change."""

CONVERSION = 3
"""Version of the conversion. Increase it when it refuses or splits sources differently: they are converted again."""

MANIFEST_FILE = "manifest.json"
VOCABULARY_FILE = "vocabulary.json"
SKIPPED_FILE = "skipped.txt"


def store_root() -> Path:
    """Return the folder of the local store."""
    return cache_root() / "imported"
