"""`ncbench runs --watch` and `--sweep`: the state of a sweep, read from its records."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ncbench.cli.display.live import LiveTable
from ncbench.cli.display.live import watch as live_table
from ncbench.cli.display.output import console, print_json
from ncbench.records.progress import Progress, resumed_share
from ncbench.records.store import Store
from ncbench.sweeps.execution import Outcome
from ncbench.sweeps.monitor import Monitor
from ncbench.sweeps.record import CONFIG, find_sweep

POLL_SECONDS = 2.0
IDLE_POLLS = 5  # polls in a row without an active run, before the sweep counts as idle
IDLE_CODE = 3  # exit code if runs are left and no process works on them


def watch_sweep(folder: Path, sweep: str | None, wait: bool) -> None:
    """Show a live table of a sweep until all its runs have ended or Ctrl-C. Raises UserError if there is no sweep.

    Exits with code IDLE_CODE once no process works on the sweep, unless `wait`.
    """
    record = find_sweep(folder, sweep)
    specs = record.specs()
    with suppress(KeyboardInterrupt), live_table(specs, quiet=False) as table:
        monitor, idle = Monitor(specs, Store(folder), table), 0
        while True:
            for _ in monitor.poll():
                pass  # the table shows the outcomes
            if not monitor.unfinished:
                return
            idle = 0 if monitor.n_running else idle + 1
            if idle == IDLE_POLLS:
                text = f"No process is working on sweep {record.id}. To resume: "
                command = f"ncbench run --config {record.folder / CONFIG}"
                if not table.silent:
                    table.console.print(text + command, markup=False, highlight=False, soft_wrap=True)
                if not wait:
                    raise SystemExit(IDLE_CODE)
            monitor.wait(POLL_SECONDS)


def show_sweep(folder: Path, sweep: str | None, as_json: bool) -> None:
    """Print the current state of a sweep as a table or JSON. Raises UserError if there is no sweep."""
    record = find_sweep(folder, sweep)
    specs = record.specs()
    snapshot = Snapshot(len(specs))
    for _ in Monitor(specs, Store(folder), snapshot).poll():
        pass
    if not as_json:
        table = LiveTable(specs, console())
        snapshot.replay(table)
        table.console.print(table.table())
        return
    print_json(
        [
            {
                "id": spec.id,
                "dataset": spec.dataset,
                "method": spec.method,
                "backbone": spec.backbone,
                "protocol": spec.protocol,
                "noise": spec.noise,
                "seed": spec.seed,
                **snapshot.facts(index),
            }
            for index, spec in enumerate(specs)
        ]
    )


class Snapshot:
    """A sweep observer that remembers the state of each run."""

    def __init__(self, count: int) -> None:
        self._progress: list[Progress | None] = [None] * count
        self._outcomes: list[Outcome | None] = [None] * count

    def started(self, index: int) -> None:
        """Ignored: progress follows."""

    def progressed(self, index: int, progress: Progress) -> None:
        """Remember the progress of a run."""
        self._progress[index] = progress

    def ended(self, index: int, outcome: Outcome) -> None:
        """Remember the outcome of a run."""
        self._outcomes[index] = outcome

    def replay(self, observer: LiveTable) -> None:
        """Copy the state to a table."""
        for index, (progress, outcome) in enumerate(zip(self._progress, self._outcomes, strict=True)):
            if progress is not None:
                observer.rows[index].started = time.monotonic()
                observer.rows[index].progress = progress
            if outcome is not None:
                observer.remember(index, outcome)

    def facts(self, index: int) -> dict[str, object]:
        """Return the status of a run, its share of the budget, and its scores so far."""
        progress, outcome = self._progress[index], self._outcomes[index]
        if outcome is not None:
            result = outcome.result
            status = "done" if outcome.status == "kept" else outcome.status
            return {
                "status": status,
                "share": 1.0 if result else None,
                "dev_rsum": result.selected.dev_rsum if result else None,
                "rsum": result.metrics.test.rsum if result else None,
                "left": None,
                "resumed_at": resumed_share(outcome.folder),
            }
        unknown: dict[str, object] = dict.fromkeys(("share", "dev_rsum", "rsum", "left", "resumed_at"))
        if progress is None:
            return {"status": "waiting", **unknown}
        known = {key: getattr(progress, key) for key in ("share", "dev_rsum", "left", "resumed_at")}
        return {"status": "running", **unknown, **known}
