"""Records of sweeps: their options, their runs, and stop requests.

`<records>/sweeps/<id>/` contains

* `sweep.toml`: the resolved options of the sweep; `ncbench run --config` repeats it;
* `plan.json`: the specs of its runs in execution order;
* `stop`: written when a stop is requested, with the time of the request;
* files of the Slurm launcher: `jobs.json` and `slurm/`.

The id is a hash of the run ids: launching the same sweep again, on any machine, uses the same folder.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ncbench.errors import UserError, brief
from ncbench.records.checked import checked, read_json
from ncbench.records.spec import RunSpec
from ncbench.runtime.files import write_json, write_text

FOLDER, CONFIG, PLAN, STOP = "sweeps", "sweep.toml", "plan.json", "stop"
STOP_POLL_SECONDS = 2.0
MAX_PLAN_BYTES = 64 * 2**20  # some 50,000 runs


@dataclass(frozen=True)
class SweepRecord:
    """The sweep with this `id` in the records folder `root`."""

    root: Path
    id: str

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return self.root / FOLDER / self.id

    def write(self, specs: Sequence[RunSpec], config: Mapping[str, Any]) -> None:
        """Write the runs of the sweep and the `config` that generated them."""
        write_json(self.folder / PLAN, [spec.to_dict() for spec in specs])
        write_text(self.folder / CONFIG, tomli_w.dumps(config))

    def specs(self) -> list[RunSpec]:
        """Return the runs in execution order. Raises UserError if the plan cannot be read."""
        path = self.folder / PLAN
        try:
            plan = checked(read_json(path, limit=MAX_PLAN_BYTES), list[dict[str, Any]])
            return [RunSpec.from_dict(content) for content in plan]
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: cannot be read as a sweep plan ({brief(error)}). Rerun the command of the sweep."
            ) from error

    def request_stop(self) -> None:
        """Request all processes of the sweep, on any machine, to save their state and stop."""
        write_text(self.folder / STOP, f"{time.time_ns()}\n")

    def last_stop_request(self) -> str:
        """Return a token that identifies the latest stop request, or "" if there was none."""
        try:
            return (self.folder / STOP).read_text()
        except OSError:
            return ""


def record_for(root: Path, specs: Sequence[RunSpec]) -> SweepRecord:
    """Return the record of the sweep of these runs; its folder may not exist yet."""
    digest = hashlib.sha256("".join(sorted(spec.id for spec in specs)).encode()).hexdigest()
    return SweepRecord(root, digest[:12])


def find_sweep(root: Path, name: str | None = None) -> SweepRecord:
    """Return the sweep whose id starts with `name`, or the latest sweep. Raises UserError if there is none."""
    plans = sorted((root / FOLDER).glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime_ns)
    if not plans:
        raise UserError(f"{root} contains no sweeps. Create one with: ncbench run --method triplet --out {root}")
    found = [path.parent.name for path in plans if path.parent.name.startswith(name or "")]
    if name is not None and len(found) != 1:
        known = ", ".join(path.parent.name for path in reversed(plans))
        raise UserError(
            f"--sweep {name}: {len(found) or 'no'} sweeps in {root} match; expected a unique prefix of {known}"
        )
    return SweepRecord(root, found[-1])


class StopListener:
    """Detects stop requests made after `since`, a token of `SweepRecord.last_stop_request`."""

    def __init__(self, record: SweepRecord, since: str) -> None:
        self._record, self._since = record, since

    @property
    def stop_requested(self) -> bool:
        """Whether a stop has been requested."""
        return self._record.last_stop_request() != self._since


@contextmanager
def watch_for_stop(record: SweepRecord, stop: Callable[[], object], since: str | None = None) -> Iterator[StopListener]:
    """Call `stop` from a background thread when a stop of the sweep is requested; `since` defaults to now."""
    listener = StopListener(record, record.last_stop_request() if since is None else since)
    closed = threading.Event()

    def listen() -> None:
        while not closed.wait(STOP_POLL_SECONDS):
            if listener.stop_requested:
                stop()
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        closed.set()
        thread.join()
