"""Run records: one folder per run, named by the hash of all that defines the run.

`runs/<dataset>/<method>/<run id>/` holds

* `spec.json`: what defines the run; the id is its hash;
* `result.json`: metrics, work spent, what the method believed; on a CPU the same bytes for the same spec;
* `measurements.json`: what differs from one execution to the next: times, memory, machine, versions;
* `history.jsonl`: a line per dev evaluation;
* `ranks.npz`: the test rank of every query, from which every score can be recomputed (`ncbench.records.arrays`);
* `retrieved.npz`: what was found first for every test query (`ncbench.records.arrays`);
* `beliefs.npz`: what the method believed of every training pair (`ncbench.records.arrays`);
* `model.safetensors`: the weights of the selected backbones;
* `origin.json`: which submission it is from, if it was not run here (`ncbench.records.submission`).

`result.json` is written last: a folder that has one holds a finished run. Others may hold

* `progress.json`: how far it is (`ncbench.records.progress`);
* `checkpoint/`: from where training goes on (`ncbench.training.checkpoint`);
* `claim.json`: who is at work on it (`ncbench.records.lease`);
* `status.json`: how it ended without a result, and `error.txt`, the traceback of an error.

Beside the datasets lie `sweeps/` (`ncbench.sweeps.record`) and, of many records, `index/` (`ncbench.records.index`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ncbench.errors import UserError
from ncbench.records.lease import is_held
from ncbench.records.spec import SCHEMA, RunSpec
from ncbench.runtime.files import write_json, write_text

_MODULES = re.compile(r"^(?:\w+\.)+(?=\w+(?::|$))")  # before the name of an exception
STATUS_FILE, ERROR_FILE, ORIGIN = "status.json", "error.txt", "origin.json"

Status: TypeAlias = Literal["done", "running", "interrupted", "failed", "diverged", "over-memory"]
"""What a run can be. `interrupted`: it goes on when it is run again; `diverged`: its loss is no finite number any more;
`over-memory`: it needs more memory than there is; `failed`: any other error."""


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: its spec as it was noted, its status, and the last line of its error, if it had one."""

    folder: Path
    spec: Mapping[str, Any]
    status: Status
    error: str


class Store:
    """A folder of run records."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, spec: RunSpec) -> Path:
        """Return where the record of a run lies, or will."""
        return self.root / spec.dataset / spec.method / spec.id

    def start(self, spec: RunSpec) -> Path:
        """Return the folder of a run after noting its spec there."""
        folder = self.folder(spec)
        write_json(folder / "spec.json", spec.to_dict())
        return folder

    def note(self, spec: RunSpec, status: Status, error: str = "") -> None:
        """Keep how a run ended without a result, and the traceback of its `error`."""
        folder = self.folder(spec)
        if error:
            write_text(folder / ERROR_FILE, error)
        line = error.strip().rpartition("\n")[2]
        write_json(folder / STATUS_FILE, {"status": status, "error": _MODULES.sub("", line)})

    def forget_end(self, spec: RunSpec) -> None:
        """Remove what `note` keeps: the run has a result now."""
        for name in (ERROR_FILE, STATUS_FILE):
            (self.folder(spec) / name).unlink(missing_ok=True)

    def how_it_ended(self, spec: RunSpec) -> tuple[Status, str]:
        """Return how a run without a result ended and its error, as noted; `interrupted` where nothing was."""
        return _how_it_ended(self.folder(spec))

    def unfinished(self) -> Iterator[Unfinished]:
        """Yield the runs without a result, in the order of their paths. Raises UserError for a damaged spec."""
        for path in sorted(self.root.glob("*/*/*/spec.json")):
            if not (path.parent / "result.json").is_file():
                status, error = _how_it_ended(path.parent)
                if is_held(path.parent):
                    status, error = "running", ""
                yield Unfinished(path.parent, read_record(path), status, error)

    def find(self, spec: RunSpec) -> dict[str, Any] | None:
        """Return the result of a finished run, or None. Raises UserError for one that cannot be read."""
        path = self.folder(spec) / "result.json"
        return read_record(path) if path.is_file() else None

    def results(self) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
        """Yield (folder, result, measurements) of every finished run, in the order of their paths."""
        for path in sorted(self.root.glob("*/*/*/result.json")):
            measurements = path.with_name("measurements.json")
            yield path.parent, read_record(path), read_record(measurements) if measurements.is_file() else {}


def noise_path(root: Path, spec: RunSpec) -> Path:
    """Return where a folder of records keeps the noise of a run; all runs under this noise share it."""
    return root / spec.dataset / "noise" / f"{spec.noise_digest[:12]}.npy"


def records_around(folder: Path) -> Path:
    """Return the folder of records that holds the run in `folder`, however that was written."""
    parents = folder.resolve().parents
    return parents[min(2, len(parents) - 1)]


def _how_it_ended(folder: Path) -> tuple[Status, str]:
    """Return the status of a run that nobody works on, and its error; one that left no word was interrupted."""
    try:
        content = json.loads((folder / STATUS_FILE).read_bytes())
        status, error = content["status"], content["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return "interrupted", ""
    return (status, str(error)) if status in get_args(Status) else ("interrupted", "")


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises UserError for a file that is damaged or of another schema."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a run record ({error}); restore it or delete its folder."
        ) from error
    found = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(record, dict) or found != SCHEMA:
        raise UserError(f"{path}: is of schema {found!r}, this version of ncbench reads {SCHEMA}.")
    return record


class History:
    """The lines of `history.jsonl`, rewritten whole at each new line: a reader never sees half of one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[str] = []

    def add(self, **values: object) -> None:
        """Append a line."""
        self.lines.append(json.dumps(values, sort_keys=True))
        write_text(self._path, "\n".join(self.lines) + "\n")


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's history; none where there is no file. Raises UserError for one that is damaged."""
    path = folder / "history.jsonl"
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no history of a run ({error!r}); restore it.") from error
