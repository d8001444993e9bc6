"""`progress.json`: how far a run is, for processes that do not execute it.

The file exists while a run is executed, and remains if it ended without a result. It is not part of the record.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ncbench.errors import UserError
from ncbench.records.checked import read_json
from ncbench.records.record import Record
from ncbench.runtime.files import remove, write_atomic

PROGRESS_FILE = "progress.json"
WRITE_INTERVAL = 5.0  # seconds: a thousand runs then write two hundred small files per second
MIN_SHARE = 0.01  # share of the budget after which the remaining time can be estimated


class ProgressFile:
    """Writes the progress of the run in `folder`, with the remaining seconds. Errors of the file system are ignored."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._written = time.monotonic()
        self._began: tuple[float, float] | None = None  # when, and at which share

    def __call__(self, progress: Progress) -> None:
        """Receive progress, and write it after every WRITE_INTERVAL."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, progress.share
        if now - self._written >= WRITE_INTERVAL:
            self._written = now
            content = asdict(replace(progress, left=self._left(progress.share, now)))
            known = {key: value for key, value in content.items() if not _is_not_finite(value)}
            with suppress(OSError):
                write_atomic(self._path, lambda file: file.write(json.dumps(known).encode()), durable=False)

    def remove(self) -> None:
        """Remove the file, once the run has a result."""
        remove(self._path)

    def _left(self, share: float, now: float) -> float | None:
        assert self._began is not None
        since, first = self._began
        return (now - since) * (1 - share) / (share - first) if share - first >= MIN_SHARE else None


def read_progress(folder: Path) -> Progress | None:
    """Return the progress of the run in `folder`; None without a readable file."""
    try:
        content = read_json(folder / PROGRESS_FILE, json.loads)  # which reads NaN
        numbers = {name: _number(content.get(name)) for name in ("loss", "dev_rsum", "left", "resumed_at")}
        return Progress(min(1.0, max(0.0, float(content["share"]))), doing=str(content["doing"]), **numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def resumed_share(folder: Path) -> float | None:
    """Return the share of the budget at which a run was last resumed, finished or not; None if it was not."""
    with suppress(UserError):  # damaged records are reported by those who list them
        measurements = Record(folder).measurements
        if measurements is not None:
            return measurements.resumed_at
    progress = read_progress(folder)
    return progress.resumed_at if progress else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not _is_not_finite(value) else None


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


@dataclass(frozen=True)
class Progress:
    """How far a run is: share of the budget spent, latest loss, best dev rSum so far, current activity.

    `left` is the estimate of the remaining seconds; None if it is unknown. `resumed_at` is the share at which this
    process took over from a checkpoint; None if it started the run.
    """

    share: float
    loss: float | None
    dev_rsum: float | None
    doing: str
    left: float | None = None
    resumed_at: float | None = None
