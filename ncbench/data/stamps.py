"""Stamps of dataset files, to detect changes during a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ncbench.errors import UserError


@dataclass(frozen=True)
class Stamp:
    """The identity of a file: its size, modification time (ns) and inode."""

    path: Path
    size: int
    changed: int
    number: int

    @staticmethod
    def of(path: Path) -> Stamp:
        """Return the current stamp of a file. Raises OSError."""
        facts = path.stat()
        return Stamp(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def stamp(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Return the current stamps of files. Raises OSError."""
    return tuple(map(Stamp.of, paths))


def check_unchanged(stamps: Iterable[Stamp]) -> None:
    """Raise UserError for the first file that has changed."""
    for before in stamps:
        try:
            now = Stamp.of(before.path)
        except OSError as error:
            raise UserError(
                f"{before.path}: was read when the run started, but is gone now ({error.strerror}); "
                "restore it and rerun the same command"
            ) from error
        if now != before:
            raise UserError(
                f"{before.path}: changed while the run was training on it, so nothing after the change is recorded; "
                "restore it and rerun the same command"
            )
