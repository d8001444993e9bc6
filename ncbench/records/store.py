"""Folders of run records: one folder per run, named by a hash of everything that defines the run.

`runs/<dataset>/<method>/<run id>/` has these files; `ncbench.records.record` reads them:

* `spec.json`: what defines the run; the id is its hash (`ncbench.records.spec`);
* `result.json`: metrics, work spent, quality of beliefs; on a CPU the same bytes for the same spec
  (`ncbench.records.result`);
* `measurements.json`: what differs between executions: times, memory, machine, versions
  (`ncbench.records.measurements`);
* `history.jsonl`: one line per dev evaluation (`ncbench.records.history`);
* `ranks.npz`: the test rank of every query, from which all scores can be recomputed (`ncbench.records.arrays`);
* `retrieved.npz`: what was retrieved first for every test query (`ncbench.records.arrays`);
* `beliefs.npz`: the beliefs of the method about every training pair (`ncbench.records.arrays`);
* `model.safetensors`: the weights of the selected backbones (`ncbench.records.networks`);
* `origin.json`: the submission it was unpacked from, if any (`ncbench.records.submission`).

`result.json` is written last: a folder with this file is a finished run. Other folders may have

* `progress.json`: how far the run is (`ncbench.records.progress`);
* `checkpoint/`: where training resumes (`ncbench.training.checkpoint`);
* `claim.json`: the lease of the process that executes it (`ncbench.records.lease`);
* `status.json`: the outcome of a run without a result, and `error.txt`, the traceback of its error.

Next to the datasets are `sweeps/` (`ncbench.sweeps.record`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ncbench.errors import UserError
from ncbench.records.checked import read_json
from ncbench.records.lease import LEASE_FILE, is_held
from ncbench.records.problems import OnProblem, Problem, stop
from ncbench.records.progress import PROGRESS_FILE
from ncbench.records.record import RESULT_FILE, SPEC_FILE, Record
from ncbench.records.result import Result
from ncbench.records.spec import RunSpec
from ncbench.runtime.files import TEMPORARY, remove, sweep_temporary, write_json, write_text

_MODULES = re.compile(r"^(?:\w+\.)+(?=\w+(?::|$))")  # before the name of an exception
STATUS_FILE, ERROR_FILE = "status.json", "error.txt"
MAX_ERROR = 10_000  # characters
LEVELS = 3  # of folders below the root: dataset, method, run
CHECKPOINT = "checkpoint"
UNFINISHED = (CHECKPOINT, PROGRESS_FILE, STATUS_FILE, ERROR_FILE)
ABANDONED_SECONDS = 3600.0  # after which a temporary file that processes share is of none that lives

Status: TypeAlias = Literal["done", "running", "interrupted", "failed", "diverged", "over-memory"]
"""The status of a run. `interrupted`: resumes when it is run again; `diverged`: the loss became NaN or infinite;
`over-memory`: out of memory; `failed`: any other error."""


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: its spec, its status, and the last line of its error, "" without one."""

    folder: Path
    spec: RunSpec
    status: Status
    error: str


class Store:
    """A folder of run records.

    To read, it may also be the folder of one dataset, one method or one run in such a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, spec: RunSpec) -> Path:
        """Return the folder of a run, which may not exist yet."""
        return self.root / spec.dataset / spec.method / spec.id

    def start(self, spec: RunSpec) -> Path:
        """Write the spec of a run and return its folder, without temporary files that a killed process left there.

        Call it with the lease of the run.
        """
        folder = self.folder(spec)
        for part in (folder, *(path for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ():
            sweep_temporary(part)
        # Other processes may be writing the noise, which runs share.
        sweep_temporary(folder.parents[1] / "noise", older_than=ABANDONED_SECONDS)
        write_json(folder / "spec.json", spec.to_dict())
        return folder

    def note(self, spec: RunSpec, status: Status, error: str = "") -> None:
        """Write the outcome of a run without a result, and the traceback of its `error`."""
        folder = self.folder(spec)
        if error:
            write_text(folder / ERROR_FILE, error)
        line = error.strip().rpartition("\n")[2]
        write_json(folder / STATUS_FILE, {"status": status, "error": _MODULES.sub("", line)})

    def clear_outcome(self, spec: RunSpec) -> None:
        """Remove what `note` wrote, once the run has a result."""
        for name in (ERROR_FILE, STATUS_FILE):
            remove(self.folder(spec) / name)

    def is_untidy(self, spec: RunSpec) -> bool:
        """Return whether a run, which has a result, has files that its process could not remove."""
        folder = self.folder(spec)
        return any((folder / name).exists() for name in (*UNFINISHED, LEASE_FILE)) or any(folder.glob(TEMPORARY))

    def tidy(self, spec: RunSpec) -> None:
        """Remove what a process could not remove after it had written the result. Call it with the lease of the run."""
        folder = self.folder(spec)
        with suppress(OSError):
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
            for name in UNFINISHED:
                if (folder / name).is_file():
                    remove(folder / name)
            sweep_temporary(folder)

    def noted_outcome(self, spec: RunSpec) -> tuple[Status, str]:
        """Return the noted status and error of a run without a result; `interrupted` if there is no note."""
        return _noted_outcome(self.folder(spec))

    def unfinished(self, on_problem: OnProblem = stop) -> Iterator[Unfinished]:
        """Yield the runs without a result, in the order of their paths.

        Runs with a damaged spec are passed to `on_problem` instead. Raises UserError as `results`.
        """
        for path in _run_folders(self.root):
            if not _present(f"{path}/{SPEC_FILE}") or _present(f"{path}/{RESULT_FILE}"):
                continue
            folder = Path(path)
            try:
                spec = Record(folder).spec
            except UserError as error:
                on_problem(Problem(folder, str(error), left_out=True))
                continue
            status, error_line = _noted_outcome(folder)
            if is_held(folder):
                status, error_line = "running", ""
            yield Unfinished(folder, spec, status, error_line)

    def folders(self) -> Iterator[Path]:
        """Yield the folders of all runs, finished or not, as `results`."""
        for path in _run_folders(self.root):
            if _is_run(path):
                yield Path(path)

    def find(self, spec: RunSpec) -> Result | None:
        """Return the result of a finished run, or None. Raises UserError for one that cannot be read."""
        record = Record(self.folder(spec))
        return record.result if record.finished else None

    def results(self) -> Iterator[Record]:
        """Yield the records of finished runs, in the order of their paths.

        Raises UserError for a folder that cannot be listed: nobody should take what is left for everything.
        """
        for folder in _run_folders(self.root):
            if _present(f"{folder}/{RESULT_FILE}"):
                yield Record(Path(folder))


def _present(path: str) -> bool:
    """Return whether there is a file, even one that may not be read. Path would take half a second for 10,000."""
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _run_folders(root: Path) -> Iterator[str]:
    """Yield the run folders in `root`, in the order of their paths.

    `root` is the folder of all records, that of a dataset or of a method in it, or a single run.
    """
    depth = 0
    while depth < LEVELS and not any(_is_run(folder) for folder in _folders_at(str(root), depth)):
        depth += 1
    yield from _folders_at(str(root), depth)


def _is_run(folder: str) -> bool:
    """Return whether a folder holds a run; a folder that cannot be entered may be anything, and is none."""
    for name in (SPEC_FILE, RESULT_FILE):
        with suppress(OSError):
            os.stat(f"{folder}/{name}")  # noqa: PTH116 - as in `_present`
            return True
    return False


def _folders_at(root: str, depth: int) -> Iterator[str]:
    """Yield the folders `depth` levels below `root`, in the order of their paths."""
    if depth == 0:
        yield root
        return
    try:
        with os.scandir(root) as entries:
            paths = sorted(entry.path for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):  # nothing was written yet, or it was removed meanwhile
        return
    except OSError as error:
        raise UserError(
            f"{root}: cannot be listed ({error.strerror}), so its runs are unknown; make it readable or move it away"
        ) from error
    for path in paths:
        yield from _folders_at(path, depth - 1)


def _noted_outcome(folder: Path) -> tuple[Status, str]:
    """Return the noted status and error of a run that no process executes; `interrupted` if there is no note."""
    try:
        content = read_json(folder / STATUS_FILE)
        status, error = content["status"], content["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return "interrupted", ""
    if status not in get_args(Status):
        return "interrupted", ""
    return status, str(error)[:MAX_ERROR]
