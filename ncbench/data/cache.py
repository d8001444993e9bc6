"""Where ncbench keeps what it makes, and how a folder of it comes to be: whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ncbench.errors import UserError


def cache_root() -> Path:
    """Return the folder of ncbench's caches: NCBENCH_CACHE if set, else the user's cache folder."""
    if chosen := os.environ.get("NCBENCH_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("ncbench"))


def make_folder(folder: Path, build: Callable[[Path], object]) -> None:
    """Let `build` fill a temporary folder that then becomes `folder`, unless another process was faster.

    Raises UserError if the folder cannot be made, and what `build` raises; then nothing stays behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise UserError(f"cannot write the cache folder {folder.parent}: {error}; set NCBENCH_CACHE.") from error
    try:
        build(building)
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            # Another process was faster; its content is the same.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
