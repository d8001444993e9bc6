"""Replaying a recorded run from its spec, and comparing the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ncbench.errors import UserError
from ncbench.method.registry import load_method, make_config
from ncbench.noise.storage import load_noise
from ncbench.records.record import load_data, read_spec
from ncbench.records.store import noise_path, read_history, read_record, records_around
from ncbench.sweeps.grid import PlannedRun, draw

SIDES, RECALLS = ("i2t", "t2i"), ("r1", "r5", "r10")


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison.

    `largest` is the largest difference of a test recall in percentage points; `detail` says what differs first.
    """

    outcome: Literal["identical", "within tolerance", "different"]
    largest: float
    detail: str


def plan_again(folder: Path, data_root: Path | None, method_file: Path | None = None) -> PlannedRun:
    """Return the run recorded in `folder`, with its dataset and noise created again.

    `method_file` defines the method if it is neither installed nor found automatically. Raises UserError if this
    version of ncbench or the available data cannot reproduce the run.
    """
    spec = read_spec(folder)
    dataset = load_data(folder, spec, data_root)
    if ":" in spec.protocol:  # an index file, of which the record has a copy
        noise = load_noise(noise_path(records_around(folder), spec))
    else:
        noise = draw(dataset, spec.protocol, spec.noise, spec.seed)
    if noise.digest != spec.noise_digest:
        raise UserError(
            f"{folder}: {spec.protocol} {spec.noise:g} draws noise {noise.digest[:12]} here, but the record has "
            f"{spec.noise_digest[:12]}; replay it with the version of ncbench that recorded it"
        )
    method = load_method(str(method_file.absolute()) if method_file else spec.method)
    if (method.name, method.source) != (spec.method, spec.source):
        raise UserError(
            f"{folder}: recorded with method {spec.method} {spec.source or '(installed)'}, found {method.name} "
            f"{method.source or '(installed)'}; pass the original file with --method-file FILE"
        )
    make_config(method, spec.settings)
    return PlannedRun(spec, dataset, noise, method)


def read_compared(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the parts of a record that `compare` uses: result and dev evaluations. Raises UserError."""
    return read_record(folder / "result.json"), read_history(folder)


def compare(recorded: Path, again: Path, tolerance: float) -> Verdict:
    """Compare two records of one spec; test recalls may differ by `tolerance` percentage points. Raises UserError."""
    (before, course), (after, course_after) = read_compared(recorded), read_compared(again)
    largest = max(
        abs(before["metrics"]["test"][side][key] - after["metrics"]["test"][side][key])
        for side in SIDES
        for key in RECALLS
    )
    parting = _first_difference(course, course_after)
    place = _differing(before, after)
    if not parting and not place:
        return Verdict("identical", 0.0, "all scores, all dev evaluations and the training work")
    detail = parting or f"first difference in {place} of the result; all dev evaluations are equal"
    if before["spec"].get("budget_unit") == "seconds":
        detail += " (with a budget in seconds, results depend on the speed of the machine)"
    return Verdict("within tolerance" if largest <= tolerance else "different", largest, detail)


def _first_difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    for number, (line, other) in enumerate(zip(before, after, strict=False), 1):
        if (place := _differing({**line, "seconds": 0}, {**other, "seconds": 0})) is not None:
            return (
                f"first difference at dev evaluation {number} of {len(before)}, in {place}: recorded dev rSum "
                f"{line['dev']['rsum']:.1f} at {line['share']:.0%} of the budget, found {other['dev']['rsum']:.1f} at "
                f"{other['share']:.0%}"
            )
    if len(before) != len(after):
        return f"recorded {len(before)} dev evaluations, found {len(after)}"
    return ""


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str | None:
    """Return the first key of `before` whose value differs in `after`; additional keys in `after` are ignored."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(after.get(key), Mapping):
            if (found := _differing(value, after[key], f"{prefix}{key}.")) is not None:
                return found
        elif key not in after or after[key] != value:
            return f"{prefix}{key}"
    return None
