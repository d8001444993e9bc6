"""Stamps of the files that a dataset is read from, also while a run lasts: they must stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ncbench.errors import UserError


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a file: its size, when it was changed (ns), and which file it is."""

    path: Path
    size: int
    changed: int
    number: int

    @staticmethod
    def of(path: Path) -> Stamp:
        """Return the stamp of a file now. Raises OSError."""
        facts = path.stat()
        return Stamp(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def stamp(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Return the stamps of files now. Raises OSError."""
    return tuple(map(Stamp.of, paths))


def check_unchanged(stamps: Iterable[Stamp]) -> None:
    """Raise UserError for the first file that is not what it was."""
    for before in stamps:
        try:
            now = Stamp.of(before.path)
        except OSError as error:
            raise UserError(
                f"{before.path}: was read when the run began and is away now ({error.strerror}); put it back as it "
                "was and give the same command again."
            ) from error
        if now != before:
            raise UserError(
                f"{before.path}: was changed while the run trained on it, so nothing that came after is recorded; put "
                "it back as it was and give the same command again."
            )
