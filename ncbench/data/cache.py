"""The cache folder, and the atomic creation of folders in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ncbench.errors import UserError


def cache_root() -> Path:
    """Return the cache folder: NCBENCH_CACHE if set, else ncbench's folder in the user's cache."""
    if chosen := os.environ.get("NCBENCH_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("ncbench"))


def make_folder(folder: Path, build: Callable[[Path], object]) -> None:
    """Let `build` fill a temporary folder, then rename it to `folder`, unless another process has created it.

    Raises UserError if the folder cannot be created, and whatever `build` raises; the temporary folder is removed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {folder.parent}: {error}; set NCBENCH_CACHE to another folder"
        ) from error
    try:
        build(building)
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            # Another process has created it, with the same content.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
