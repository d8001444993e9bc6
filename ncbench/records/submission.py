"""Submissions: several records in one file, small enough to review, complete enough to recompute the scores.

A submission is JSON with `schema`, `name`, `contact`, `about`, `methods`, `backbones` and `runs`. Each run has the
`result`, `measurements` and `history` of its record, and the test `ranks`. `methods` and `backbones` have the sources
of those from files, by digest; they are data and never run. Weights, beliefs and noise are left out: noise can be drawn
again from its protocol and seed, and is identified by its digest.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from ncbench.errors import UserError, brief
from ncbench.evaluation.retrieval import Ranks
from ncbench.plugins.discovery import NAME
from ncbench.records.arrays import RANKS_FILE, SIDES, save_ranks
from ncbench.records.checked import check_depth, checked, decoded
from ncbench.records.history import HistoryLine
from ncbench.records.measurements import Measurements
from ncbench.records.plugin_sources import BACKBONE, METHOD, PARTS, Part, PluginSource, sources_of
from ncbench.records.record import (
    HISTORY_FILE,
    MEASUREMENTS_FILE,
    ORIGIN_FILE,
    RESULT_FILE,
    Record,
)
from ncbench.records.result import Result
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.records.verification import verify_run
from ncbench.runtime.bounded import in_mib, read_bytes
from ncbench.runtime.files import write_json, write_text

SCHEMA = 1
MAX_BYTES = 256 * 2**20
"""Size of a submission: some 1,500 runs on a test split of 5,000 images and 25,000 captions."""

MAX_OBJECTS = 2_000_000
MAX_RUNS = 20_000
MAX_SOURCES = 256
MAX_PART_BYTES = 4 * 2**20
"""Of the result, the measurements or the history of a run."""

MAX_RANKS_BYTES = 16 * 2**20
"""Of the ranks of a run: some two million queries."""

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
    """A run in a submission, as JSON text; everything but `ranks` as it is in its record.

    The text is only decoded run by run, so that a large submission takes little memory.
    """

    result: msgspec.Raw
    measurements: msgspec.Raw
    history: msgspec.Raw
    ranks: msgspec.Raw


@dataclass(frozen=True)
class SubmittedRecord:
    """The files of the record of a submitted run, checked."""

    spec: RunSpec
    result: dict[str, Any]
    measurements: dict[str, Any]
    history: list[dict[str, Any]]
    ranks: SubmittedMetrics

    @classmethod
    def of(cls, run: SubmittedRun, place: str) -> SubmittedRecord:
        """Return the record of a run at this place in a submission. Raises ValueError, and UserError for its values."""
        parts: dict[str, Any] = {}
        kinds = {"result": dict[str, Any], "measurements": dict[str, Any], "history": list[dict[str, Any]]}
        for name, kind in kinds.items():
            text = getattr(run, name)
            if len(bytes(text)) > MAX_PART_BYTES:
                raise ValueError(f"{place}.{name}: it is larger than {in_mib(MAX_PART_BYTES)}")
            parts[name] = decoded(text, kind, f"{place}.{name}")
            check_depth(parts[name])
        if len(bytes(run.ranks)) > MAX_RANKS_BYTES:
            raise ValueError(f"{place}.ranks: it is larger than {in_mib(MAX_RANKS_BYTES)}")
        ranks = decoded(run.ranks, SubmittedMetrics, f"{place}.ranks")
        return cls(_spec(**parts), **parts, ranks=ranks)

    def write(self, folder: Path) -> None:
        """Write the files into the folder of the record, the result last. Raises OSError."""
        ranks = self.ranks
        whole = (ranks.test_unfolded or ranks.test).to_ranks()
        save_ranks(folder / RANKS_FILE, whole, ranks.test.to_ranks() if ranks.test_unfolded else None)
        lines = [f"{json.dumps(line, sort_keys=True)}\n" for line in self.history]
        write_text(folder / HISTORY_FILE, "".join(lines))
        write_json(folder / MEASUREMENTS_FILE, self.measurements)
        write_json(folder / RESULT_FILE, self.result)


Sources: TypeAlias = Annotated[dict[str, PluginSource], Meta(max_length=MAX_SOURCES)]


class Submission(msgspec.Struct, frozen=True):
    """The content of a submission: its name, who made it, what it is about, its runs, and sources of what they used.

    `contact`, and `methods` and `backbones`, by digest, are missing in older submissions.
    """

    schema: int
    name: str
    about: str
    runs: Annotated[list[SubmittedRun], Meta(min_length=1, max_length=MAX_RUNS)]
    contact: str = ""
    methods: Sources = {}
    backbones: Sources = {}

    def sources(self, part: Part) -> Mapping[str, PluginSource]:
        """Return the sources of methods, or of backbones, by digest."""
        return self.methods if part is METHOD else self.backbones

    def records(self) -> Iterator[SubmittedRecord]:
        """Yield the runs. Raises ValueError for one that is no record."""
        for number, run in enumerate(self.runs):
            try:
                yield SubmittedRecord.of(run, f"runs[{number}]")
            except _RecordError as error:
                raise ValueError(f"run {number} is not a record ({error})") from error


class _RecordError(ValueError):
    """The files of a run are JSON, but no record."""


class _Head(msgspec.Struct):
    schema: object = None


def bundle(
    name: str,
    folders: Sequence[Path],
    about: str,
    contact: str = "",
    method_files: Sequence[Path] = (),
    backbone_files: Sequence[Path] = (),
) -> dict[str, Any]:
    """Return a submission of the runs in `folders`, ordered by dataset, method and id.

    The sources of methods and backbones from files go with it: see `ncbench.records.plugin_sources`. Raises UserError
    for a run that does not pass `verify_run`, and for a method or backbone whose source is not found.
    """
    check_name(name)
    runs, records = {}, []
    for folder in folders:
        problems = verify_run(folder)
        if problems:
            raise UserError(f"{folder}: {problems[0]}; only records that `ncbench verify` passes can be submitted")
        record = Record(folder)
        records.append(record)
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
    head: dict[str, Any] = {"schema": SCHEMA, "name": name, "about": about, "contact": contact}
    for key, part, named in (("methods", METHOD, method_files), ("backbones", BACKBONE, backbone_files)):
        sources = sources_of(records, named, part)
        if sources:
            head[key] = {digest: msgspec.to_builtins(source) for digest, source in sources.items()}
    return {**head, "runs": [runs[key] for key in sorted(runs)]}


def write_submission(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `bundle` returned, one line per run, so that diffs are readable. Raises OSError.

    Without spaces, as they would be a quarter of the file: most of it is ranks.
    """
    head = {key: value for key, value in content.items() if key != "runs"}
    runs = ",\n".join(
        json.dumps(run, sort_keys=True, allow_nan=False, separators=(",", ":")) for run in content["runs"]
    )
    write_text(path, f'{json.dumps(head, sort_keys=True)[:-1]}, "runs": [\n{runs}\n]}}\n')


def read_submission(path: Path) -> Submission:
    """Return the submission in `path`. Raises UserError for a file that is missing, too large, or something else."""
    try:
        content = read_bytes(path, MAX_BYTES)
        if content.count(b"{") > MAX_OBJECTS:
            raise ValueError(f"it has more than {MAX_OBJECTS:,} objects")
        head = decoded(content, _Head) if content.lstrip()[:1] == b"{" else _Head()
        if head.schema != SCHEMA:
            raise ValueError(f"schema {reprlib.repr(head.schema)} is not supported, expected {SCHEMA}")
        submission: Submission = decoded(content, Submission)
        for part in PARTS:
            for digest, source in submission.sources(part).items():
                source.check(digest, part)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: cannot be read as a submission ({brief(problem)}); write one with: ncbench submit"
        ) from error
    check_name(submission.name)
    return submission


def specs_of(path: Path, submission: Submission) -> list[RunSpec]:
    """Return the specs of the runs of the submission in `path`, all checked. Raises UserError for an invalid run."""
    try:
        return [record.spec for record in submission.records()]
    except ValueError as error:
        raise UserError(f"{path}: {brief(error)}; write it again with: ncbench submit") from error


def unpack(path: Path, root: Path) -> list[Path]:
    """Write the records of the submission in `path` into the folder of records `root`; return the folders written.

    The sources of methods and backbones from files are written beside their records, as data. Runs that have a record
    there are skipped. Raises UserError as `read_submission`, and for an invalid run, before anything is written.
    """
    submission, store = read_submission(path), Store(root)
    specs_of(path, submission)
    origin = {"submission": submission.name, "digest": hashlib.sha256(read_bytes(path, MAX_BYTES)).hexdigest()}
    written = []
    for record in submission.records():
        spec = record.spec
        if store.find(spec) is not None:
            continue
        folder = store.start(spec)
        for part in PARTS:
            source = submission.sources(part).get(part.source_in(spec))
            if source is not None:
                write_text(folder / part.file, source.text)
        write_json(folder / ORIGIN_FILE, origin)
        record.write(folder)
        written.append(folder)
    return written


def check_name(name: str) -> None:
    """Raise UserError unless `name` is valid for a submission."""
    if not NAME.fullmatch(name):
        raise UserError(f"submission {name!r}: use letters, digits, '.', '_' and '-' in its name")


def _spec(result: dict[str, Any], measurements: dict[str, Any], history: list[dict[str, Any]]) -> RunSpec:
    """Return the spec after checking the whole run. Raises ValueError."""
    try:
        found = Result.from_dict(result)
        Measurements.from_dict(measurements)
        checked(history, list[HistoryLine], "history")
        if not NAME.fullmatch(found.spec.method):
            raise ValueError(f"spec.method: {found.spec.method!r} is not a valid name")
        if found.id != found.spec.id:
            raise ValueError(f"its id is {found.id}, but that of its spec is {found.spec.id}")
    except ValueError as error:
        raise _RecordError(str(error)) from error
    return found.spec
