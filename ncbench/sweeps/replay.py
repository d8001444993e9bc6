"""Running a record again from its own spec, and saying whether the same comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ncbench.errors import UserError
from ncbench.method.registry import load_method, make_config
from ncbench.records.arrays import SIDES
from ncbench.records.history import HistoryLine
from ncbench.records.record import RESULT_FILE, Record
from ncbench.sweeps.grid import PlannedRun, draw

RECALLS = ("r1", "r5", "r10")


@dataclass(frozen=True)
class Verdict:
    """How a replay compares: `largest` is the largest difference of a test recall, in points; `detail` says where."""

    outcome: Literal["identical", "within tolerance", "different"]
    largest: float
    detail: str


def plan_again(folder: Path, data_root: Path | None, method_file: Path | None = None) -> PlannedRun:
    """Return the run that the record in `folder` is of, with its data and noise made anew.

    `method_file` holds the method, where it is neither installed nor found.

    Raises UserError where this version, or the data at hand, cannot make the same run.
    """
    record = Record(folder)
    spec, dataset = record.spec, record.dataset(data_root)
    is_file = ":" in spec.protocol  # an index file, whose content the record keeps
    noise = record.noise if is_file else draw(dataset, spec.protocol, spec.noise, spec.seed)
    if noise.digest != spec.noise_digest:
        raise UserError(
            f"{folder}: {spec.protocol} {spec.noise:g} draws other noise here ({noise.digest[:12]}) than it did "
            f"({spec.noise_digest[:12]}); replay it with the version that made it."
        )
    method = load_method(str(method_file.absolute()) if method_file else spec.method)
    if (method.name, method.source) != (spec.method, spec.source):
        raise UserError(
            f"{folder}: was made by {spec.method} {spec.source or '(installed)'}, here is {method.name} "
            f"{method.source or '(installed)'}; give the file as it was: --method-file FILE."
        )
    make_config(method, spec.settings)
    return PlannedRun(spec, dataset, noise, method)


def check_comparable(folder: Path) -> None:
    """Raise UserError unless the record in `folder` has what `compare` reads: its result and its history."""
    record = Record(folder)
    record.check_finished()
    _ = record.result, record.history


def compare(recorded: Path, again: Path, tolerance: float) -> Verdict:
    """Compare two records of one spec; recalls on test may differ by `tolerance` points. Raises UserError."""
    before, after = Record(recorded), Record(again)
    scores = [record.result.metrics.test for record in (before, after)]
    recalls = [[getattr(getattr(score, side), key) for side in SIDES for key in RECALLS] for score in scores]
    largest = max(abs(one - other) for one, other in zip(*recalls, strict=True))
    parting = _first_difference(before, after)
    place = _differing(before.content(RESULT_FILE), after.content(RESULT_FILE))
    if not parting and not place:
        return Verdict("identical", 0.0, "every score, every dev evaluation and all work")
    detail = parting or f"first in {place} of the result; all dev evaluations are equal"
    if before.result.spec.budget.unit == "seconds":
        detail += " (how much work a budget in seconds allows depends on the machine)"
    return Verdict("within tolerance" if largest <= tolerance else "different", largest, detail)


def _first_difference(before: Record, after: Record) -> str:
    """Return where the histories differ first, in words; "" if they are equal but for times."""
    history, history_after = before.history, after.history
    for number, lines in enumerate(zip(before.history_lines(), after.history_lines(), strict=False)):
        line, other = ({**line, "seconds": 0} for line in lines)
        place = _differing(line, other)
        if place is not None:
            return _in_words(number, place, history, history_after)
    if len(history) != len(history_after):
        return f"{len(history)} dev evaluations were recorded, now there are {len(history_after)}"
    return ""


def _in_words(number: int, place: str, before: Sequence[HistoryLine], after: Sequence[HistoryLine]) -> str:
    line, other = before[number], after[number]
    return (
        f"first at dev evaluation {number + 1} of {len(before)}, in {place}: at {line.share:.0%} of the budget "
        f"dev rSum was {line.dev.rsum:.1f} and is now {other.dev.rsum:.1f} at {other.share:.0%}"
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str | None:
    """Return the first key, in the order of `before`, whose value `after` does not have; what is new there is fine."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(after.get(key), Mapping):
            if (found := _differing(value, after[key], f"{prefix}{key}.")) is not None:
                return found
        elif key not in after or after[key] != value:
            return f"{prefix}{key}"
    return None
