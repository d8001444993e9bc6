"""How far a run is, in its folder: what others than those who execute it can see of it.

`progress.json` is there while a run is at work, and stays where it ended without a result. It is no part of the record.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ncbench.runtime.files import write_atomic

PROGRESS_FILE = "progress.json"
EVERY = 5.0  # seconds from one writing to the next: a thousand runs at work are two hundred small files a second
TELLING = 0.01  # share of the budget from which on the time that is left can be told


class ProgressFile:
    """Keeps the progress of the run in `folder`, with the seconds that are left; a disk that is full loses it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._written = time.monotonic()
        self._began: tuple[float, float] | None = None  # when, and at which share

    def __call__(self, progress: Progress) -> None:
        """Take note of progress, and write it if it is time."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, progress.share
        if now - self._written >= EVERY:
            self._written = now
            content = asdict(replace(progress, left=self._left(progress.share, now)))
            known = {key: value for key, value in content.items() if not _is_no_number(value)}
            with suppress(OSError):
                write_atomic(self._path, lambda file: file.write(json.dumps(known).encode()), durable=False)

    def remove(self) -> None:
        """Leave nothing behind: the run has a result."""
        self._path.unlink(missing_ok=True)

    def _left(self, share: float, now: float) -> float | None:
        assert self._began is not None
        since, first = self._began
        return (now - since) * (1 - share) / (share - first) if share - first >= TELLING else None


def read_progress(folder: Path) -> Progress | None:
    """Return the progress of the run in `folder`; None where nothing, or nothing readable, is noted."""
    try:
        content = json.loads((folder / PROGRESS_FILE).read_bytes())
        numbers = {name: _number(content.get(name)) for name in ("loss", "dev_rsum", "left")}
        return Progress(min(1.0, max(0.0, float(content["share"]))), doing=str(content["doing"]), **numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not _is_no_number(value) else None


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


@dataclass(frozen=True)
class Progress:
    """How far a run is: share of the budget spent, latest loss, best dev rsum so far, what it is doing.

    `left` are the seconds that it will take, where who executes it has told.
    """

    share: float
    loss: float | None
    dev_rsum: float | None
    doing: str
    left: float | None = None
