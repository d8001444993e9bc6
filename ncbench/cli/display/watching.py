"""A sweep seen from outside: `ncbench runs --watch`."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ncbench.cli.display.live import LiveTable
from ncbench.cli.display.live import watch as live_table
from ncbench.cli.display.output import console, print_json
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.sweeps.execution import Outcome
from ncbench.sweeps.monitor import Following
from ncbench.sweeps.record import CONFIG, find_sweep

LOOK_SECONDS = 2.0
IDLE_LOOKS = 5  # in a row, after which nobody is between two runs


def watch_sweep(folder: Path, sweep: str | None, as_json: bool = False) -> None:
    """Keep a table of a sweep up to date until all its runs have ended, or Ctrl-C. Raises UserError for no sweep."""
    record = find_sweep(folder, sweep)
    specs = record.specs()
    with suppress(KeyboardInterrupt), live_table(specs, quiet=False) as table:
        following, idle = Following(specs, Store(folder), table), 0
        while True:
            for _ in following.look():
                pass  # the table shows it
            if not following.open:
                return
            idle = 0 if following.at_work else idle + 1
            if idle == IDLE_LOOKS and not table.silent:
                words = f"Nobody is at work on sweep {record.id}; waiting. To go on with it: "
                again = f"ncbench run --config {record.folder / CONFIG}"
                table.console.print(words + again, markup=False, highlight=False, soft_wrap=True)
            following.pause(LOOK_SECONDS)


def show_sweep(folder: Path, sweep: str | None, as_json: bool) -> None:
    """Print how the runs of a sweep stand, as a table or as JSON. Raises UserError for no sweep."""
    record = find_sweep(folder, sweep)
    specs = record.specs()
    seen = Seen(len(specs))
    for _ in Following(specs, Store(folder), seen).look():
        pass
    if not as_json:
        table = LiveTable(specs, console())
        seen.repeat(table)
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
                **seen.facts(index),
            }
            for index, spec in enumerate(specs)
        ]
    )


class Seen:
    """An observer that remembers how runs stand."""

    def __init__(self, count: int) -> None:
        self._progress: list[Progress | None] = [None] * count
        self._outcomes: list[Outcome | None] = [None] * count

    def started(self, index: int) -> None:
        """A run has begun, which its progress shows too."""

    def progressed(self, index: int, progress: Progress) -> None:
        """Remember how far a run is."""
        self._progress[index] = progress

    def ended(self, index: int, outcome: Outcome) -> None:
        """Remember how a run ended."""
        self._outcomes[index] = outcome

    def repeat(self, observer: LiveTable) -> None:
        """Tell another observer."""
        for index, (progress, outcome) in enumerate(zip(self._progress, self._outcomes, strict=True)):
            if progress is not None:
                observer.rows[index].started = time.monotonic()
                observer.rows[index].progress = progress
            observer.rows[index].outcome = outcome

    def facts(self, index: int) -> dict[str, object]:
        """Return the status of a run, its share of the budget, and its scores as far as they are known."""
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
            }
        if progress is None:
            return {"status": "waiting", "share": None, "dev_rsum": None, "rsum": None, "left": None}
        dev, left = progress.dev_rsum, progress.left
        return {"status": "running", "share": progress.share, "dev_rsum": dev, "rsum": None, "left": left}
