"""Sweeps in a folder of records: what was asked for, which runs that makes, and whether they are to stop.

`<records>/sweeps/<id>/` holds

* `sweep.toml`: the sweep as it was resolved from files and options; `ncbench run --config` makes the same again;
* `plan.json`: the specs of its runs, in the order in which they are executed;
* `stop`: there once someone has asked the sweep to stop, with when;
* what a launcher keeps of its own: `jobs.json` and `slurm/`.

The id follows from the runs: the same sweep, launched elsewhere or again, has the same folder.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ncbench.errors import UserError
from ncbench.records.spec import RunSpec
from ncbench.runtime.files import write_json, write_text

FOLDER, CONFIG, PLAN, STOP = "sweeps", "sweep.toml", "plan.json", "stop"
LISTEN_SECONDS = 2.0


@dataclass(frozen=True)
class SweepRecord:
    """The sweep called `id` in the folder of records `root`."""

    root: Path
    id: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.root / FOLDER / self.id

    def write(self, specs: Sequence[RunSpec], config: Mapping[str, Any]) -> None:
        """Keep the runs of the sweep, and the `config` that they follow from."""
        write_json(self.folder / PLAN, [spec.to_dict() for spec in specs])
        write_text(self.folder / CONFIG, tomli_w.dumps(config))

    def specs(self) -> list[RunSpec]:
        """Return its runs, in their order. Raises UserError for a plan that cannot be read."""
        path = self.folder / PLAN
        try:
            return [RunSpec.from_dict(content) for content in json.loads(path.read_bytes())]
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read as the plan of a sweep ({error}); give the command of the sweep again."
            ) from error

    def ask_to_stop(self) -> None:
        """Have all who listen, on any machine, save and end."""
        write_text(self.folder / STOP, f"{time.time_ns()}\n")

    def asked_at(self) -> str:
        """Return what tells one request to stop from the next; "" where none was made."""
        try:
            return (self.folder / STOP).read_text()
        except OSError:
            return ""


def record_of(root: Path, specs: Sequence[RunSpec]) -> SweepRecord:
    """Return the record of the sweep of these runs, which may not be there yet."""
    digest = hashlib.sha256("".join(sorted(spec.id for spec in specs)).encode()).hexdigest()
    return SweepRecord(root, digest[:12])


def find_sweep(root: Path, name: str | None = None) -> SweepRecord:
    """Return the sweep whose id begins with `name`, or the one that was launched last. Raises UserError for none."""
    plans = sorted((root / FOLDER).glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime_ns)
    if not plans:
        raise UserError(f"{root} holds no sweep; make one with: ncbench run --method triplet --out {root}")
    found = [path.parent.name for path in plans if path.parent.name.startswith(name or "")]
    if name is not None and len(found) != 1:
        known = ", ".join(path.parent.name for path in reversed(plans))
        raise UserError(f"--sweep {name}: {len(found) or 'no'} sweeps in {root} begin so; there are {known}.")
    return SweepRecord(root, found[-1])


class Listener:
    """Whether a sweep was asked to stop since a moment, which `since` (of `asked_at`) names."""

    def __init__(self, record: SweepRecord, since: str) -> None:
        self._record, self._since = record, since

    @property
    def heard(self) -> bool:
        """Look."""
        return self._record.asked_at() != self._since


@contextmanager
def listening(record: SweepRecord, stop: Callable[[], object], since: str | None = None) -> Iterator[Listener]:
    """Call `stop` once the sweep is asked to stop, from a thread of its own; `since` defaults to now."""
    listener, over = Listener(record, record.asked_at() if since is None else since), threading.Event()

    def listen() -> None:
        while not over.wait(LISTEN_SECONDS):
            if listener.heard:
                stop()
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        over.set()
        thread.join()
