"""Submissions: several records in one file, small enough to review, complete enough to recompute the scores.

A submission is JSON with `schema`, `name`, `about` and `runs`. Each run has the `result`, `measurements` and `history`
of its record, and the test `ranks`. Weights, beliefs and noise are left out: noise can be drawn again from its protocol
and seed, and is identified by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from ncbench.errors import UserError
from ncbench.evaluation.retrieval import Ranks
from ncbench.plugins.discovery import NAME
from ncbench.records.arrays import RANKS_FILE, SIDES, save_ranks
from ncbench.records.checked import checked
from ncbench.records.history import HistoryLine
from ncbench.records.measurements import Measurements
from ncbench.records.record import HISTORY_FILE, MEASUREMENTS_FILE, ORIGIN_FILE, RESULT_FILE, Record
from ncbench.records.result import Result
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.records.verification import verify_run
from ncbench.runtime.files import write_json, write_text

SCHEMA = 1
MAX_BYTES = 256 * 2**20
"""Size of a submission: some 1,500 runs on a test split of 5,000 images and 25,000 captions."""

Rank: TypeAlias = Annotated[int, Meta(ge=0, lt=2**31)]
Folds: TypeAlias = Annotated[list[Annotated[list[Rank], Meta(min_length=1)]], Meta(min_length=1)]


class SubmittedRanks(msgspec.Struct, frozen=True):
    """Ranks of the queries of both directions, per fold."""

    i2t: Folds
    t2i: Folds

    def to_ranks(self) -> Ranks:
        """Return them as arrays."""
        return Ranks(*(tuple(np.array(fold, np.int64) for fold in getattr(self, side)) for side in SIDES))


class SubmittedMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ranks by the metric that they belong to, see `ncbench.records.result.Metrics`."""

    test: SubmittedRanks
    test_unfolded: SubmittedRanks | None = None


class SubmittedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run in a submission; everything but `ranks` as it is in its record."""

    result: dict[str, Any]
    measurements: dict[str, Any]
    history: list[dict[str, Any]]
    ranks: SubmittedMetrics

    def spec(self) -> RunSpec:
        """Return the spec after checking the whole run. Raises ValueError."""
        result = Result.from_dict(self.result)
        Measurements.from_dict(self.measurements)
        checked(self.history, list[HistoryLine], "history")
        if not NAME.fullmatch(result.spec.method):
            raise ValueError(f"spec.method: {result.spec.method!r} is not a valid name")
        if result.id != result.spec.id:
            raise ValueError(f"its id is {result.id}, but that of its spec is {result.spec.id}")
        return result.spec


class Submission(msgspec.Struct, frozen=True):
    """The content of a submission: its name, what it is about, and its runs."""

    schema: int
    name: str
    about: str
    runs: Annotated[list[SubmittedRun], Meta(min_length=1)]


def bundle(name: str, folders: Sequence[Path], about: str) -> dict[str, Any]:
    """Return a submission of the runs in `folders`, ordered by dataset, method and id.

    Raises UserError for a run that does not pass `verify_run`.
    """
    check_name(name)
    runs = {}
    for folder in folders:
        problems = verify_run(folder)
        if problems:
            raise UserError(f"{folder}: {problems[0]}; only records that `ncbench verify` passes can be submitted")
        record = Record(folder)
        spec = record.result.spec
        ranks = {
            name: {side: [fold.tolist() for fold in getattr(found, side)] for side in SIDES}
            for name, found in record.ranks.items()
        }
        runs[(spec.dataset, spec.method, spec.id)] = {
            "result": record.content(RESULT_FILE),
            "measurements": record.public_measurements(),
            "history": record.history_lines(),
            "ranks": ranks,
        }
    return {"schema": SCHEMA, "name": name, "about": about, "runs": [runs[key] for key in sorted(runs)]}


def write_submission(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `bundle` returned, one line per run, so that diffs are readable. Raises OSError."""
    head = {key: value for key, value in content.items() if key != "runs"}
    runs = ",\n".join(json.dumps(run, sort_keys=True, allow_nan=False) for run in content["runs"])
    write_text(path, f'{json.dumps(head, sort_keys=True)[:-1]}, "runs": [\n{runs}\n]}}\n')


def read_submission(path: Path) -> Submission:
    """Return the submission in `path`. Raises UserError for a file that is missing, too large, or something else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES / 2**20:.0f} MiB")
        content = msgspec.json.decode(path.read_bytes())
        found = content.get("schema") if isinstance(content, dict) else None
        if found != SCHEMA:
            raise ValueError(f"schema {found!r} is not supported, expected {SCHEMA}")
        submission: Submission = checked(content, Submission)
    except (OSError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a submission ({error}); write one with: ncbench submit") from error
    check_name(submission.name)
    return submission


def unpack(path: Path, root: Path) -> list[Path]:
    """Write the records of the submission in `path` into the folder of records `root`; return the folders written.

    Runs that have a record there are skipped. Raises UserError as `read_submission`, and for an invalid run, before
    anything is written.
    """
    submission, store = read_submission(path), Store(root)
    specs = [_spec(run, f"{path}: run {number}") for number, run in enumerate(submission.runs)]
    origin = {"submission": submission.name, "digest": hashlib.sha256(path.read_bytes()).hexdigest()}
    written = []
    for run, spec in zip(submission.runs, specs, strict=True):
        if store.find(spec) is not None:
            continue
        folder, ranks = store.start(spec), run.ranks
        whole = (ranks.test_unfolded or ranks.test).to_ranks()
        save_ranks(folder / RANKS_FILE, whole, ranks.test.to_ranks() if ranks.test_unfolded else None)
        lines = [f"{json.dumps(line, sort_keys=True)}\n" for line in run.history]
        write_text(folder / HISTORY_FILE, "".join(lines))
        write_json(folder / MEASUREMENTS_FILE, run.measurements)
        write_json(folder / ORIGIN_FILE, origin)
        write_json(folder / RESULT_FILE, run.result)
        written.append(folder)
    return written


def check_name(name: str) -> None:
    """Raise UserError unless `name` is valid for a submission."""
    if not NAME.fullmatch(name):
        raise UserError(f"submission {name!r}: use letters, digits, '.', '_' and '-' in its name")


def _spec(run: SubmittedRun, where: str) -> RunSpec:
    try:
        return run.spec()
    except ValueError as error:
        raise UserError(f"{where} is not a record ({error}); write it again with: ncbench submit") from error
