"""What `ncbench show` prints about one run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ncbench.cli.display.fitting import print_fitting
from ncbench.cli.display.output import print_table, say
from ncbench.cli.display.quantities import duration, size, sparkline
from ncbench.records import arrays, record
from ncbench.records.lease import is_held
from ncbench.records.progress import read_progress, resumed_share
from ncbench.records.store import ERROR_FILE, Store
from ncbench.sweeps.observers import describe

if TYPE_CHECKING:
    from ncbench.records.record import Record
    from ncbench.records.result import Result, Scores

FILES = {
    record.SPEC_FILE: "what defines the run",
    record.RESULT_FILE: "scores, work and quality of beliefs",
    record.MEASUREMENTS_FILE: "times, memory, machine and versions",
    record.HISTORY_FILE: "loss, work, seconds and dev scores at each evaluation",
    arrays.RANKS_FILE: "test rank of every query",
    arrays.TOP_K_FILE: "what was retrieved first",
    arrays.FITTING_FILE: "test ranks of all captions and images that fit",
    arrays.BELIEFS_FILE: "beliefs about every training pair",
    record.MODEL_FILE: "weights of the selected networks",
    ERROR_FILE: "traceback of the error",
}
COURSE = (
    "network",
    "spent",
    "dev rSum",
    "AUC",
    "AUC of labels",
    "calibration error",
    "of labels",
    "rematched to better",
)
SCORES = ("direction", "R@1", "R@5", "R@10", "median rank")


def content(found: Record) -> dict[str, Any]:
    """Return everything about a run that `print_run` shows, as JSON."""
    measured = found.measurements
    return {
        "folder": str(found.folder),
        "status": _status(found),
        "spec": found.spec.to_dict(),
        "result": found.result.to_dict() if found.finished else None,
        "measurements": measured.to_dict() if measured else None,
        "history": [msgspec.to_builtins(line) for line in found.history],
        "files": [str(path) for path in _files(found.folder)],
    }


def print_run(found: Record) -> None:
    """Print a run on one screen. Raises UserError for a record that cannot be read."""
    spec = found.spec
    say(f"{spec.id}: {describe(spec)}")
    say(f"status: {_status(found)}")
    say(f"data: {spec.dataset}, version {spec.dataset_version}, content {spec.dataset_digest[:12]}")
    if spec.of_earlier_harness:
        say(f"harness: {spec.harness}, an earlier version; compare it with runs of the same version only")
    if found.finished:
        _print_scores(found.result)
    _print_course(found)
    _print_course_of_beliefs(found)
    if found.finished:
        _print_beliefs(found.result)
    _print_cost(found)
    _print_names("settings", spec.settings)
    _print_names("backbone sizes", spec.sizes)
    rows = [(path.name, FILES[path.name]) for path in _files(found.folder)]
    print_table(f"Files in {found.folder}", ("file", "content"), rows)


def _print_names(title: str, values: Mapping[str, object]) -> None:
    if values:
        told = ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
        say(f"{title}: {told}")


def _status(found: Record) -> str:
    share = resumed_share(found.folder)
    resumed = "" if share is None else f", resumed at {share:.0%}"
    if found.finished:
        return f"done{resumed}"
    progress = read_progress(found.folder)
    at = (f" at {progress.share:.0%}" if progress else "") + resumed
    if is_held(found.folder):
        return f"running{at}"
    status, error = Store(found.root).noted_outcome(found.spec)
    return f"{status}{at}{f': {error}' if error else ''}"


def _print_scores(result: Result) -> None:
    def rows(scores: Scores) -> list[tuple[str, ...]]:
        return [
            (name, *(f"{value:.1f}" for value in (side.r1, side.r5, side.r10)), f"{side.medr:g}")
            for name, side in (("image to text", scores.i2t), ("text to image", scores.t2i))
        ]

    for name, scores in result.metrics.by_name().items():
        where = "test" if name == "test" else "the whole test split"
        print_table(f"Scores on {where}, rSum {scores.rsum:.1f}", SCORES, rows(scores), numbers=SCORES[1:])
    fitting = result.metrics.fitting
    if fitting is not None:
        print_fitting(f"All that fits, {fitting.pairs:,} pairs, in %", fitting.retrieval)


def _print_course(found: Record) -> None:
    by_network: dict[str, list[float]] = {}
    for line in found.history:
        by_network.setdefault(line.backbone, []).append(line.dev.rsum)
    for network, values in by_network.items():
        of = f" of {network}" if len(by_network) > 1 else ""
        facts = f"first {values[0]:.1f}, best {max(values):.1f}, last {values[-1]:.1f}"
        count = "1 evaluation" if len(values) == 1 else f"{len(values)} evaluations"
        say(f"dev rSum{of}: {sparkline(values)}  {facts}, {count}")
    if found.finished:
        chosen = found.result.selected
        at = "" if found.spec.budget.self_reported else f", at {chosen.share:.0%} of the budget"
        say(f"selected: dev rSum {chosen.dev_rsum:.1f}{at}")


def _print_course_of_beliefs(found: Record) -> None:
    """Print how good beliefs were at each evaluation, if there were any."""
    lines = [line for line in found.history if line.detection or line.soft_labels or line.plan]
    if not lines:
        return

    def told(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = [
        (
            line.backbone,
            f"{line.share:.0%}",
            f"{line.dev.rsum:.1f}",
            *(told(one.auc if one else None) for one in (line.detection, line.soft_labels)),
            *(told(one.calibration_error if one else None) for one in (line.detection, line.soft_labels)),
            told(line.plan.better if line.plan else None),
        )
        for line in lines
    ]
    print_table("Beliefs at each evaluation", COURSE, rows, numbers=COURSE[1:])


def _print_beliefs(result: Result) -> None:
    for name, judged in (("P(clean)", result.beliefs.detection), ("soft labels", result.beliefs.soft_labels)):
        if judged is not None:
            rates = [("AUC", judged.auc), ("precision", judged.precision), ("recall", judged.recall)]
            told = ", ".join(f"{what} {value:.3f}" for what, value in rates if value is not None)
            found = f"{judged.mismatched} of {judged.pairs} pairs mismatched"
            say(f"beliefs, {name}: {told}, calibration error {judged.calibration_error:.3f} ({found})")
    rematches = result.beliefs.rematches
    if rematches is not None:
        facts = [(entry.name, getattr(rematches, entry.name)) for entry in dataclasses.fields(rematches)]
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in facts if value is not None)
        say(f"rematches: {told}")


def _print_cost(found: Record) -> None:
    parts = []
    if found.finished:
        work = found.result.work
        epochs = found.result.baseline_epochs
        if epochs is not None:
            parts.append(f"{work.used:.3g} FLOPs ({epochs:.3g} baseline epochs), {work.updates} updates")
        else:
            parts.append(f"self-reported, {work.used:.3g} FLOPs" if work.used else "self-reported")
    measured = found.measurements
    if measured is not None:
        seconds = measured.seconds
        parts.append(f"training {duration(seconds.training)}")
        parts += [f"evaluation {duration(seconds.evaluation)}"] if seconds.evaluation else []
        if measured.overhead_share is not None:
            parts.append(f"{measured.overhead_share:.1%} outside the networks")
        if measured.peak is not None:
            parts.append(f"peak memory {size(measured.peak)}")
        parts.append(f"device {measured.environment.device or 'unknown'}")
        if measured.started is not None:
            parts.append(time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(measured.started)))
    if parts:
        say(f"cost: {', '.join(parts)}")


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()]
