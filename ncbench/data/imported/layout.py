"""Where the local store keeps converted datasets, and the names of its files. Loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

from ncbench.data.cache import cache_root

FORMAT = 1  # of a folder of the store; raise it when its files change shape

VOCABULARY = "vocabulary.json"

MANIFEST = "manifest.json"


def store_root() -> Path:
    """Return the folder of all datasets from elsewhere."""
    return cache_root() / "imported"
