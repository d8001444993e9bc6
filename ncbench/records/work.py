"""Whether the updates, samples, seconds and FLOPs of a record fit each other, and the second count of its work."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ncbench.backbones.registry import members_of
from ncbench.records.history import HistoryLine
from ncbench.records.measurements import Measurements
from ncbench.records.record import Record
from ncbench.records.result import WorkSpent

MAX_FLOPS_OF_A_CORE = 4e12
"""FLOPs per second, above those of any core of a CPU."""
MAX_FLOPS_OF_A_GPU = 1e16
MAX_ALLOWED = 3.0
"""The largest ratio of counted to charged FLOPs that a second count may allow."""
WATCHED_WITHIN = 6
"""One of so many first updates is watched."""
TOLERANCE = 1e-6
UNUSUALLY_SLOW = 4.0
"""Times the median time per FLOP of other runs, above which a run may do work that nobody counts."""


def work_problems(record: Record) -> Iterator[str]:
    """Yield what is wrong with the numbers of work in a record. Raises UserError if it cannot be read."""
    work, measurements = record.result.work, record.measurements
    yield from _counts(work)
    yield from _course(record.history, record)
    if measurements is not None:
        yield from _seconds(record, measurements)
        yield from _audit(work, measurements)


def _counts(work: WorkSpent) -> Iterator[str]:
    if work.samples is not None and work.samples < work.updates:
        yield f"{work.updates} updates encoded {work.samples} captions with gradients; every update needs one"
    if work.pair_passes is not None and work.pair_passes < work.updates:
        yield f"{work.updates} updates computed {work.pair_passes} similarities; every update needs one"
    if work.samples is not None and work.used < work.samples:
        yield f"{work.samples} captions were encoded with {work.used} FLOPs"


def _course(history: Sequence[HistoryLine], record: Record) -> Iterator[str]:
    """Check that everything in the history grows, and that its shares are those of the work."""
    work, members = record.result.work, members_of(record.result.spec.backbone)
    for name in members:
        mine = [line for line in history if line.backbone == name]
        for what in ("share", "work", "updates", "seconds"):
            values = [getattr(line, what) for line in mine]
            if values != sorted(values):
                yield f"the {what} of {name} falls in history.jsonl"
    if len(members) == 1 and work.budget:
        for line in history:
            if not math.isclose(line.share, line.work / work.budget, abs_tol=TOLERANCE):
                yield f"history.jsonl has {line.work} of {work.budget} FLOPs at {line.share:.1%} of the budget"
                return


def _seconds(record: Record, found: Measurements) -> Iterator[str]:
    work, seconds, environment = record.result.work, found.seconds.training, found.environment
    cpu = environment.device in ("", "cpu")
    fastest = MAX_FLOPS_OF_A_CORE * (environment.cores or 1024) if cpu else MAX_FLOPS_OF_A_GPU
    if work.used > fastest * seconds:
        yield f"{work.used:.3g} FLOPs in {seconds:.3g} s of training are more than any such device computes"
    if found.overhead is not None and sum(found.overhead.values()) > seconds * (1 + TOLERANCE) + 0.01:
        yield f"training took {seconds:.3g} s, {sum(found.overhead.values()):.3g} s of it outside of networks"
    last = max((line.seconds for line in record.history), default=0.0)
    if last > seconds * (1 + TOLERANCE):
        yield f"history.jsonl ends after {last:.3g} s of training, measurements.json says {seconds:.3g} s"


def _audit(work: WorkSpent, found: Measurements) -> Iterator[str]:
    """Check the second count; records of an earlier harness have none."""
    audited = found.audited
    if audited is None:
        return
    if audited.updates > work.updates + 1 or audited.charged > work.used:
        yield f"{audited.updates} updates of {audited.charged} FLOPs were watched, of {work.updates} of {work.used}"
    if not audited.updates and work.updates >= WATCHED_WITHIN:
        yield f"none of {work.updates} updates was watched"
    if audited.most > MAX_ALLOWED:
        yield f"torch may count {audited.most:g} times the FLOPs charged; expected at most {MAX_ALLOWED:g}"
    elif audited.counted > audited.most * audited.charged:
        yield (
            f"in {audited.updates} updates that were watched, torch counted {audited.counted:.3g} FLOPs, but "
            f"{audited.charged:.3g} were charged; expected at most {audited.most:.2f} times"
        )


def unusually_slow(records: Iterable[Record]) -> dict[Path, str]:
    """Return, by folder, the runs that take far more time per FLOP than others of the same kind, in words.

    They may do work that nobody counts, outside of torch; or their machine was busy. Time that is known to be spent
    outside of networks, such as on mixture fits, does not count.
    """
    kinds: dict[tuple[object, ...], dict[Path, float]] = defaultdict(dict)
    methods: dict[Path, str] = {}
    for record in records:
        found, spec, used = record.measurements, record.result.spec, record.result.work.used
        if found is None or not used or spec.budget.self_reported:
            continue
        seconds = found.seconds.training - sum((found.overhead or {}).values())
        sizes, backbone = tuple(sorted(spec.sizes.items())), (spec.backbone, spec.backbone_source)
        kind = (spec.dataset, spec.dataset_digest, backbone, spec.precision, sizes)
        kinds[(*kind, found.environment.processor, found.environment.device)][record.folder] = seconds / used
        methods[record.folder] = spec.method
    slow: dict[Path, str] = {}
    for speeds in kinds.values():
        for folder, mine in speeds.items():
            others = [speed for other, speed in speeds.items() if methods[other] != methods[folder]]
            usual = statistics.median(others) if others else math.inf
            if mine > UNUSUALLY_SLOW * usual:
                slow[folder] = (
                    f"takes {mine / usual:.0f} times as long per FLOP as runs of other methods: it may do work that "
                    "is not counted, or the machine was busy"
                )
    return slow
