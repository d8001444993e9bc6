"""Replaying a recorded run from its spec, and comparing the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ncbench.backbones.base import Backbone
from ncbench.backbones.outline import check_builds
from ncbench.backbones.registry import load_backbone
from ncbench.errors import UserError
from ncbench.method.base import Method
from ncbench.method.registry import load_method, make_config
from ncbench.noise.drawing import draw
from ncbench.noise.registry import load_protocol
from ncbench.records.arrays import SIDES
from ncbench.records.history import HistoryLine
from ncbench.records.plugin_sources import BACKBONE, METHOD, Part
from ncbench.records.record import RESULT_FILE, Record
from ncbench.records.spec import check_harness
from ncbench.sweeps.grid import PlannedRun

RECALLS = ("r1", "r5", "r10")
Loaded = TypeVar("Loaded", type[Method], type[Backbone])


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison.

    `largest` is the largest difference of a test recall in percentage points; `detail` says what differs first.
    """

    outcome: Literal["identical", "within tolerance", "different"]
    largest: float
    detail: str

    def in_words(self, tolerance: float) -> str:
        """Return the verdict in one line."""
        if self.outcome == "identical":
            return f"identical: {self.detail}"
        return (
            f"{self.outcome}: test recalls differ by up to {self.largest:.2f} points (tolerance {tolerance:g}); "
            f"{self.detail}"
        )


def plan_again(
    folder: Path, data_root: Path | None, method_file: Path | None = None, backbone_file: Path | None = None
) -> PlannedRun:
    """Return the run recorded in `folder`, with its dataset and noise created again.

    `method_file` and `backbone_file` define those that are neither installed nor found automatically. Raises UserError
    if this version of ncbench or the available data cannot reproduce the run.
    """
    record = Record(folder)
    spec = record.spec
    if spec.budget.self_reported:
        raise UserError(f"{folder}: {spec.method} was trained outside ncbench, which cannot train it again")
    check_harness(spec, str(folder))
    dataset = record.dataset(data_root)
    if ":" in spec.protocol:  # an index file, of which the record has a copy
        noise = record.noise
    else:
        load_protocol(spec.protocol, run_found=False)  # raises for a file that only the record names
        noise = draw(dataset, spec.protocol, spec.noise, spec.seed)
    if noise.digest != spec.noise_digest:
        raise UserError(
            f"{folder}: {spec.protocol} {spec.noise:g} draws noise {noise.digest[:12]} here, but the record has "
            f"{spec.noise_digest[:12]}; replay it with the version of ncbench that recorded it"
        )
    method = _recorded(folder, METHOD, load_method, method_file)
    make_config(method, spec.settings)
    _recorded(folder, BACKBONE, load_backbone, backbone_file)
    check_builds(spec.backbone, dataset, spec.sizes)
    return PlannedRun(spec, dataset, noise, method)


def _recorded(folder: Path, part: Part, load: Callable[..., Loaded], file: Path | None) -> Loaded:
    """Return the method or backbone of the record in `folder`, from `file` if the user gives one.

    Raises UserError for one in a file that the user has not named, and for another one than that of the record.
    """
    spec, noun, option = Record(folder).spec, part.name_field, part.option
    name, source = part.name_in(spec), part.source_in(spec)
    try:
        found = load(str(file.absolute())) if file else load(name, run_found=False)
    except UserError as error:
        if file:
            raise
        message = str(error).rstrip(".")
        copy = folder / part.file
        hint = f" Its submission has a copy, {copy}; read it first." if copy.is_file() else ""
        raise UserError(f"{folder}: {message}. Name the file that defines it: {option} FILE.{hint}") from error
    here = getattr(found, "name", name)  # that of the registry, for built-in backbones
    if (here, found.source) != (name, source):
        raise UserError(
            f"{folder}: recorded with {noun} {name} {source or '(installed)'}, found {here} "
            f"{found.source or '(installed)'}; pass the original file with {option} FILE"
        )
    return found


def check_comparable(folder: Path) -> None:
    """Raise UserError unless the record in `folder` has what `compare` reads: its result and its history."""
    record = Record(folder)
    record.check_finished()
    _ = record.result, record.history


def compare(recorded: Path, again: Path, tolerance: float) -> Verdict:
    """Compare two records of one spec; test recalls may differ by `tolerance` percentage points. Raises UserError."""
    before, after = Record(recorded), Record(again)
    scores = [record.result.metrics.test for record in (before, after)]
    recalls = [[getattr(getattr(score, side), key) for side in SIDES for key in RECALLS] for score in scores]
    largest = max(abs(one - other) for one, other in zip(*recalls, strict=True))
    parting = _first_difference(before, after)
    place = _differing(before.content(RESULT_FILE), after.content(RESULT_FILE))
    if not parting and not place:
        return Verdict("identical", 0.0, "all scores, all dev evaluations and the training work")
    detail = parting or f"first difference in {place} of the result; all dev evaluations are equal"
    if before.result.spec.budget.unit == "seconds":
        detail += " (with a budget in seconds, results depend on the speed of the machine)"
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
        return f"recorded {len(history)} dev evaluations, found {len(history_after)}"
    return ""


def _in_words(number: int, place: str, before: Sequence[HistoryLine], after: Sequence[HistoryLine]) -> str:
    line, other = before[number], after[number]
    return (
        f"first difference at dev evaluation {number + 1} of {len(before)}, in {place}: recorded dev rSum "
        f"{line.dev.rsum:.1f} at {line.share:.0%} of the budget, found {other.dev.rsum:.1f} at {other.share:.0%}"
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str | None:
    """Return the first key of `before` whose value differs in `after`; additional keys in `after` are ignored."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(after.get(key), Mapping):
            if (found := _differing(value, after[key], f"{prefix}{key}.")) is not None:
                return found
        elif key not in after or after[key] != value:
            return f"{prefix}{key}"
    return None
