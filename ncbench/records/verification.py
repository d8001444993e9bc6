"""Whether a record is consistent: scores match ranks and beliefs, work keeps the budget, ids and digests match."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ncbench.backbones.registry import members_of
from ncbench.errors import UserError, brief
from ncbench.method.registry import GROUP, load_method
from ncbench.noise.storage import load_noise
from ncbench.plugins import discovery
from ncbench.plugins.discovery import plugin_names
from ncbench.plugins.source_files import source_digest
from ncbench.records.arrays import SIDES, TOP_K_FILE
from ncbench.records.fitting import check_fitting, check_fitting_with_dataset
from ncbench.records.history import HistoryLine
from ncbench.records.judgement import check_beliefs, check_with_dataset
from ncbench.records.plugin_sources import PARTS
from ncbench.records.record import ORIGIN_FILE, RESULT_FILE, Record
from ncbench.records.store import Store
from ncbench.records.work import work_problems

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset

TOLERANCE = 1e-9
"""Of scores, in points: the formulas are the same, but sums may be taken in another order."""

MAX_OVERTIME = 1.1
"""Of a budget in seconds, plus one second: the last step may end late."""


def verify_run(folder: Path, dataset_of: Callable[[Record], Dataset | None] | None = None) -> list[str]:
    """Return the problems of the record in `folder`, one sentence each; empty if it is consistent.

    `dataset_of` returns the dataset of a record, or None where it is not available; with it, the ground truth and the
    quality of rematches are computed again too, and which captions fit which images.
    """
    record, problems = Record(folder), list[str]()
    try:
        _ = record.result
    except UserError as error:
        return [str(error)]
    for check in _checks_of(record):
        try:
            problems += check(record)
        except UserError as error:
            problems.append(str(error))
    if dataset_of is not None and not problems:
        dataset = dataset_of(record)
        if dataset is not None:
            problems += [*check_with_dataset(record, dataset), *check_fitting_with_dataset(record, dataset)]
    return list(dict.fromkeys(brief(text, 1000) for text in problems))  # several checks read the same file


class Datasets:
    """The datasets of records, as far as they are available; `root` is the folder of dataset files."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._known: dict[tuple[str, str, str], Dataset | None] = {}

    def of(self, record: Record) -> Dataset | None:
        """Return the dataset of a record, which is loaded once; None where it is not available."""
        spec = record.spec
        key = (spec.dataset, spec.dataset_version, spec.dataset_digest)
        if key not in self._known:
            try:
                self._known[key] = record.dataset(self._root)
            except (UserError, OSError):
                self._known[key] = None
        return self._known[key]


def of_earlier_harness(folder: Path) -> bool:
    """Return whether an earlier version of the harness made the run; False for a record that cannot be read."""
    try:
        return Record(folder).result.spec.of_earlier_harness
    except UserError:
        return False


def is_self_reported(folder: Path) -> bool:
    """Return whether the run was trained outside ncbench; False for a record that cannot be read."""
    try:
        return Record(folder).result.spec.budget.self_reported
    except UserError:
        return False


def runs_below(folder: Path) -> list[Path]:
    """Return the folders of finished runs: `folder` itself, or those in a folder of records. Raises UserError."""
    if Record(folder).finished:
        return [folder]
    found = [record.folder for record in Store(folder).results()]
    if not found:
        raise UserError(f"{folder} is neither a finished run nor a folder of records with one")
    return found


def _identity(record: Record) -> Iterator[str]:
    result, spec = record.result, record.result.spec
    path = (spec.dataset, spec.method, spec.id)
    if result.id != spec.id:
        yield f"the id is {result.id}, but that of its spec is {spec.id}"
    if record.folder.resolve().parts[-3:] != path:
        yield f"the folder of this spec would be {'/'.join(path)}"
    if record.spec != spec:
        yield "spec.json differs from the spec in result.json"
    for name, size in spec.sizes.items():
        if size < 0:
            yield f"the size {name} is {size}"
    if result.status != "done":
        yield f"the status of a result must be 'done', found {result.status!r}"


def _scores(record: Record) -> Iterator[str]:
    scores, ranks = record.result.metrics.by_name(), record.ranks
    names = set(record.content(RESULT_FILE)["metrics"]) - {"fitting"}  # unknown ones too
    if set(ranks) != names:
        yield f"there are ranks for {sorted(ranks)} and scores for {sorted(names)}"
    for name in sorted(set(ranks) & set(scores)):
        for queries, captions in zip(ranks[name].i2t, ranks[name].t2i, strict=False):
            if queries.max() >= len(captions):
                yield f"{name} i2t has a rank of {queries.max()} among {len(captions)} captions"
        expected = ranks[name].retrieval().to_dict()
        for place, said, found in _differences(msgspec.to_builtins(scores[name]), expected):
            yield f"{name} {place} is {said}, but its ranks give {found}"


def _differences(said: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _differences(said[key], value, f"{prefix}{key} ")
        elif not math.isclose(said[key], value, rel_tol=0, abs_tol=TOLERANCE):
            yield f"{prefix}{key}", said[key], value


def _retrieved(record: Record) -> Iterator[str]:
    """Compare what was retrieved first with the ranks; older records do not have it."""
    found = record.top_k
    if found is None:
        return
    whole = record.ranks.get("test_unfolded", record.ranks["test"])
    described = np.flatnonzero(np.bincount(found.true))  # images without captions have no rank
    for side, right in (("i2t", found.i2t_correct[described]), ("t2i", found.t2i_correct)):
        said = getattr(whole, side)[0]
        shown = np.where(right.any(1), right.argmax(1), right.shape[1])
        if len(said) != len(shown):
            yield f"{TOP_K_FILE} has {len(shown)} {side} queries, ranks.npz has {len(said)}"
        elif wrong := int(np.count_nonzero(shown != np.minimum(said, right.shape[1]))):
            yield f"{TOP_K_FILE} contradicts ranks.npz in {wrong} of {len(said)} {side} queries"


def _work(record: Record) -> Iterator[str]:
    work, spec, budget = record.result.work, record.result.spec, record.result.spec.budget
    if not work.used or not work.updates:
        yield f"{work.updates} updates did work of {work.used} FLOPs; both must be above 0"
    if budget.unit in ("seconds", "own-epochs"):
        return
    if work.budget is None:
        yield f"a budget of {budget} bounds FLOPs, but work.budget is null"
        return
    if work.used > work.budget:
        yield f"work of {work.used} FLOPs exceeds the budget of {work.budget}"
    due = budget.amount if budget.unit == "flops" else budget.amount * record.result.baseline_epoch
    if abs(work.budget - due) > len(members_of(spec.backbone)):
        yield f"the budget is {work.budget} FLOPs, but its spec means {due:.0f}"


def _course(record: Record) -> Iterator[str]:
    """Compare the result with the history: the last line of every member, and the best one."""
    result, history = record.result, record.history
    last = {line.backbone: line for line in history}
    members = members_of(result.spec.backbone)
    if list(last) != list(members):
        yield f"history.jsonl has evaluations of {', '.join(last) or 'nothing'}, expected {', '.join(members)}"
        return
    sums: Sequence[tuple[str, int, int]] = (
        ("updates", sum(line.updates for line in last.values()), result.work.updates),
        ("used", sum(line.work for line in last.values()), result.work.used),
    )
    for what, found, said in sums:
        if found != said:
            yield f"history.jsonl ends with {what} of {found}, the result says {said}"
    yield from _curve(history, result.spec.evaluations)
    for name, chosen in (result.selected.members or {result.spec.backbone: result.selected}).items():
        best = max((line for line in history if line.backbone == name), key=lambda line: line.dev.rsum, default=None)
        rsum = best and best.dev.rsum
        if chosen.dev_rsum != rsum:
            yield f"{name} was selected at dev rSum {chosen.dev_rsum}, but the best in history.jsonl is {rsum}"
        elif best is not None and chosen.share != best.share:
            yield f"{name} was selected at {chosen.share} of the budget, the best in history.jsonl is at {best.share}"


def _curve(history: Sequence[HistoryLine], evaluations: int) -> Iterator[str]:
    """Check the dev evaluations of each member: how many there are, that they go on, and their sums."""
    members = dict.fromkeys(line.backbone for line in history)
    for name in members:
        lines = [line for line in history if line.backbone == name]
        if len(lines) > evaluations:
            yield f"history.jsonl has {len(lines)} evaluations of {name}, its spec allows {evaluations}"
        for before, after in itertools.pairwise(lines):
            for key in ("share", "work", "updates", "seconds"):
                if getattr(after, key) < getattr(before, key):
                    yield f"{key} of {name} falls from {getattr(before, key)} to {getattr(after, key)} in history.jsonl"
    for line in history:
        found = sum(getattr(getattr(line.dev, side), key) for side in SIDES for key in ("r1", "r5", "r10"))
        if abs(line.dev.rsum - found) > TOLERANCE:
            yield f"history.jsonl has a dev rSum of {line.dev.rsum}, but its recalls sum to {found}"


def _noise(record: Record) -> Iterator[str]:
    if not record.noise_path.is_file() and (record.folder / ORIGIN_FILE).is_file():
        return  # a submission identifies noise by its digest only
    spec, noise = record.result.spec, load_noise(record.noise_path)
    if noise.digest != spec.noise_digest:
        yield f"the stored noise has digest {noise.digest}, the spec names {spec.noise_digest}"
    # In a tiny set, nothing may be drawn at any ratio: such noises share a digest, and a file.
    if noise.ratio != spec.noise and noise.ratio and spec.noise:
        yield f"the stored noise has ratio {noise.ratio:g}, the spec says {spec.noise:g}"


@lru_cache
def _needs_truth(method: str, registered: object) -> bool | None:
    """Return whether an installed method sees the ground truth; None for others.

    Looking up what is `registered` takes longer than all other checks of a small record, hence the cache.
    """
    if method not in plugin_names(GROUP):
        return None
    return load_method(method, run_found=False).needs_truth


def _ground_truth(record: Record) -> Iterator[str]:
    """Compare whether a run saw the ground truth with what its method says, if that is installed."""
    spec = record.result.spec
    needs_truth = None if spec.source else _needs_truth(spec.method, vars(discovery)["entry_points"])
    if needs_truth is None:
        return
    if record.result.sees_truth != needs_truth:
        said = "saw the ground truth" if record.result.sees_truth else "did not see the ground truth"
        yield f"the result says that {spec.method} {said}, but the method says otherwise"


def _measurements(record: Record) -> Iterator[str]:
    measurements, budget = record.measurements, record.result.spec.budget
    if measurements is None:
        yield "measurements.json is missing"
    elif budget.unit == "seconds" and measurements.seconds.training > MAX_OVERTIME * budget.amount + 1:
        yield f"training took {measurements.seconds.training:.1f} s of a budget of {budget.amount:g} s"


def _source(record: Record) -> Iterator[str]:
    """Compare the sources that came with a submission with what the spec says of them; nothing is run."""
    for part in PARTS:
        if record.has(part.file):
            source, text = part.source_in(record.spec), record.source_text(part.file, part.name_field)
            if source_digest(text.encode()) != source:
                yield (
                    f"{part.file} is not the file that defined the {part.name_field}, of which the spec has digest "
                    f"{source!r}"
                )


CHECKS: Sequence[Callable[[Record], Iterator[str]]] = (
    _identity,
    _scores,
    _retrieved,
    check_fitting,
    _work,
    work_problems,
    _course,
    _noise,
    check_beliefs,
    _ground_truth,
    _measurements,
    _source,
)
COUNTED = (_work, work_problems, _course)
"""Checks of what ncbench counts and evaluates while it trains: it did not train self-reported runs."""


def _checks_of(record: Record) -> Sequence[Callable[[Record], Iterator[str]]]:
    return [check for check in CHECKS if not (record.result.spec.budget.self_reported and check in COUNTED)]
