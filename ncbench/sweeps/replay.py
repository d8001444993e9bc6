"""Running a record again from its own spec, and saying whether the same comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ncbench.errors import UserError
from ncbench.method.base import Method
from ncbench.method.registry import load_method, make_config
from ncbench.noise.storage import load_noise
from ncbench.records.record import load_data, read_spec
from ncbench.records.store import noise_path, read_history, read_record, records_around
from ncbench.sweeps.grid import PlannedRun, draw

SIDES, RECALLS = ("i2t", "t2i"), ("r1", "r5", "r10")


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
    spec = read_spec(folder)
    dataset = load_data(folder, spec, data_root)
    if ":" in spec.protocol:  # an index file, whose content the record keeps
        noise = load_noise(noise_path(records_around(folder), spec))
    else:
        noise = draw(dataset, spec.protocol, spec.noise, spec.seed)
    if noise.digest != spec.noise_digest:
        raise UserError(
            f"{folder}: {spec.protocol} {spec.noise:g} draws other noise here ({noise.digest[:12]}) than it did "
            f"({spec.noise_digest[:12]}); replay it with the version that made it."
        )
    method = load_method(str(method_file.absolute())) if method_file else _installed(folder, spec.method)
    if (method.name, method.source) != (spec.method, spec.source):
        raise UserError(
            f"{folder}: was made by {spec.method} {spec.source or '(installed)'}, here is {method.name} "
            f"{method.source or '(installed)'}; give the file as it was: --method-file FILE."
        )
    make_config(method, spec.settings)
    return PlannedRun(spec, dataset, noise, method)


def _installed(folder: Path, name: str) -> type[Method]:
    """Return a method by the name that a record gives. Raises UserError for one in a file that nobody has named."""
    try:
        return load_method(name, run_found=False)
    except UserError as error:
        raise UserError(f"{folder}: {error} Name the file that defines it: --method-file FILE.") from error


def read_compared(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what `compare` compares of a record: its result and its dev evaluations. Raises UserError."""
    return read_record(folder / "result.json"), read_history(folder)


def compare(recorded: Path, again: Path, tolerance: float) -> Verdict:
    """Compare two records of one spec; recalls on test may differ by `tolerance` points. Raises UserError."""
    (before, course), (after, course_after) = read_compared(recorded), read_compared(again)
    largest = max(
        abs(before["metrics"]["test"][side][key] - after["metrics"]["test"][side][key])
        for side in SIDES
        for key in RECALLS
    )
    parting = _first_difference(course, course_after)
    place = _differing(before, after)
    if not parting and not place:
        return Verdict("identical", 0.0, "every score, every dev evaluation and all work")
    detail = parting or f"first in {place} of the result, all dev evaluations being equal"
    if before["spec"].get("budget_unit") == "seconds":
        detail += " (a budget in seconds buys what a machine manages)"
    return Verdict("within tolerance" if largest <= tolerance else "different", largest, detail)


def _first_difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    for number, (line, other) in enumerate(zip(before, after, strict=False), 1):
        if (place := _differing({**line, "seconds": 0}, {**other, "seconds": 0})) is not None:
            return (
                f"first at dev evaluation {number} of {len(before)}, in {place}: at {line['share']:.0%} of the budget "
                f"dev rSum {line['dev']['rsum']:.1f} was recorded, now it is {other['dev']['rsum']:.1f} at "
                f"{other['share']:.0%}"
            )
    if len(before) != len(after):
        return f"{len(before)} dev evaluations were recorded, now there are {len(after)}"
    return ""


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str | None:
    """Return the first key, in the order of `before`, whose value `after` does not have; what is new there is fine."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(after.get(key), Mapping):
            if (found := _differing(value, after[key], f"{prefix}{key}.")) is not None:
                return found
        elif key not in after or after[key] != value:
            return f"{prefix}{key}"
    return None
