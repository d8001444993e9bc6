"""Submissions: records in one file, small enough to be reviewed, complete enough that scores can be recomputed.

A submission is JSON: its `schema`, `name`, what it is `about`, and `runs`. Of a run it holds `result`, `measurements`
and `history` as they are in its record, and the test `ranks`. Weights, beliefs and noise stay behind: noise is drawn
again from its protocol and seed, and known by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncbench.errors import UserError
from ncbench.evaluation.retrieval import Ranks
from ncbench.plugins.discovery import NAME
from ncbench.records import arrays
from ncbench.records.arrays import load_ranks, save_ranks
from ncbench.records.record import read_measurements
from ncbench.records.spec import RunSpec
from ncbench.records.store import ORIGIN, Store, read_history, read_record
from ncbench.records.verification import verify_run
from ncbench.runtime.files import write_json, write_text

SCHEMA = 1
LARGEST = 256 * 2**20
"""Bytes of a submission: some 1,500 runs on a test set of 5,000 images and 25,000 captions."""

_KEYS = {"result", "measurements", "history", "ranks"}


@dataclass(frozen=True)
class Submission:
    """A submission that was read: its name, what it is about, its runs, and the SHA-256 of its file in hex."""

    name: str
    about: str
    runs: Sequence[Mapping[str, Any]]
    digest: str


def bundle(name: str, folders: Sequence[Path], about: str) -> dict[str, Any]:
    """Return the submission of the runs in `folders`, by their specs. Raises UserError for one that does not hold."""
    check_name(name)
    runs = {}
    for folder in folders:
        problems = verify_run(folder)
        if problems:
            raise UserError(f"{folder}: {problems[0]}; only records that `ncbench verify` passes can be submitted.")
        result = read_record(folder / "result.json")
        spec = RunSpec.from_dict(result["spec"])
        runs[(spec.dataset, spec.method, spec.id)] = {
            "result": result,
            "measurements": read_measurements(folder),
            "history": read_history(folder),
            "ranks": {
                name: {side: [fold.tolist() for fold in getattr(ranks, side)] for side in arrays.SIDES}
                for name, ranks in load_ranks(folder / arrays.RANKS_FILE).items()
            },
        }
    return {"schema": SCHEMA, "name": name, "about": about, "runs": [runs[key] for key in sorted(runs)]}


def write_submission(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `bundle` returned: a line per run, so that changes can be read. Raises OSError."""
    head = {key: value for key, value in content.items() if key != "runs"}
    runs = ",\n".join(json.dumps(run, sort_keys=True, allow_nan=False) for run in content["runs"])
    write_text(path, f'{json.dumps(head, sort_keys=True)[:-1]}, "runs": [\n{runs}\n]}}\n')


def read_submission(path: Path) -> Submission:
    """Return the submission in `path`. Raises UserError for a file that is missing, too large, or something else."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST / 2**20:.0f} MiB")
        data = path.read_bytes()
        content = json.loads(data, parse_constant=_refuse)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"it is of no schema that is known, {SCHEMA}")
        name, about, runs = content["name"], content["about"], content["runs"]
        if not (isinstance(name, str) and isinstance(about, str) and isinstance(runs, list) and runs):
            raise ValueError("it has not a name, what it is about, and runs")
        for number, run in enumerate(runs):
            if not isinstance(run, dict) or set(run) != _KEYS:
                raise ValueError(f"run {number} does not consist of {', '.join(sorted(_KEYS))}")
    except (OSError, RecursionError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a submission ({error}); write one with: ncbench submit.") from error
    check_name(name)
    return Submission(name, about, runs, hashlib.sha256(data).hexdigest())


def unpack(path: Path, root: Path) -> list[Path]:
    """Write the records of the submission in `path` into the folder of records `root`; return the folders written.

    Runs that have a record there are left as they are. Raises UserError as `read_submission`, and for a run that is
    none, before anything is written.
    """
    submission, store = read_submission(path), Store(root)
    parsed = [
        (run, _spec(run, f"{path}: run {number}"), _ranks(run, f"{path}: run {number}"))
        for number, run in enumerate(submission.runs)
    ]
    written = []
    for run, spec, ranks in parsed:
        if store.find(spec) is not None:
            continue
        folder = store.start(spec)
        save_ranks(folder / arrays.RANKS_FILE, ranks.get("test_unfolded", ranks["test"]), _folded(ranks))
        write_text(
            folder / "history.jsonl", "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in run["history"])
        )
        write_json(folder / "measurements.json", run["measurements"])
        write_json(folder / ORIGIN, {"submission": submission.name, "digest": submission.digest})
        write_json(folder / "result.json", run["result"])
        written.append(folder)
    return written


def check_name(name: str) -> None:
    """Raise UserError unless a submission may be called so."""
    if not NAME.fullmatch(name):
        raise UserError(f"submission {name!r}: use letters, digits, '.', '_' and '-' for its name.")


def _spec(run: Mapping[str, Any], where: str) -> RunSpec:
    """Return the spec of a run, whose names are safe to make folders of."""
    try:
        spec = RunSpec.from_dict(run["result"]["spec"])
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in (spec.dataset, spec.method)):
            raise ValueError(f"dataset {spec.dataset!r} or method {spec.method!r} is no name")
        if json.loads(json.dumps(spec.to_dict())) != run["result"]["spec"] or run["result"]["id"] != spec.id:
            raise ValueError("its id is not that of its spec")
        if not all(isinstance(run[part], dict) for part in ("result", "measurements", "ranks")):
            raise ValueError("its parts are no objects")
        if not isinstance(run["history"], list):
            raise ValueError("its history is no list")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is no record ({error}); write the submission anew with: ncbench submit.") from error
    return spec


def _ranks(run: Mapping[str, Any], where: str) -> dict[str, Ranks]:
    try:
        found = {
            name: Ranks(*(tuple(np.array(fold, np.int64) for fold in sides[side]) for side in arrays.SIDES))
            for name, sides in run["ranks"].items()
        }
        if set(found) not in ({"test"}, {"test", "test_unfolded"}):
            raise ValueError(f"there are ranks for {', '.join(sorted(found)) or 'nothing'}")
        for ranks in found.values():
            for fold in (*ranks.i2t, *ranks.t2i):
                if fold.ndim != 1 or not len(fold) or fold.min() < 0:
                    raise ValueError("ranks must be numbers from 0")
        return found
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{where} has no ranks ({error}); write the submission anew with: ncbench submit.") from error


def _folded(ranks: Mapping[str, Ranks]) -> Ranks | None:
    return ranks["test"] if "test_unfolded" in ranks else None


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")
