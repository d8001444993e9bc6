"""The live table of a sweep: a row per run, with progress, time left, loss and dev rSum."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ncbench.cli.output import console
from ncbench.runner import Progress
from ncbench.store import RunSpec
from ncbench.sweep import Outcome

REFRESH_SECONDS = 0.25
RECALLS = tuple((side, key) for side in ("i2t", "t2i") for key in ("r1", "r5", "r10"))


@dataclass
class Row:
    """What is known of a run so far."""

    spec: RunSpec
    started: float | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None


class LiveTable:
    """An observer of a sweep that keeps a table up to date, or prints a line per run where there is no terminal."""

    def __init__(self, specs: Sequence[RunSpec], console: Console) -> None:
        self.rows = [Row(spec) for spec in specs]
        self.console = console
        self.live = Live(console=console, auto_refresh=False, get_renderable=self.table)
        self.refreshed = 0.0

    def started(self, index: int) -> None:
        """Note when a run begins."""
        self.rows[index].started = time.monotonic()

    def progressed(self, index: int, progress: Progress) -> None:
        """Show how far a run is, at most a few times a second."""
        self.rows[index].progress = progress
        now = time.monotonic()
        if self.console.is_terminal and now - self.refreshed > REFRESH_SECONDS:
            self.refreshed = now
            self.live.refresh()

    def ended(self, index: int, outcome: Outcome) -> None:
        """Show how a run ended."""
        row = self.rows[index]
        row.outcome = outcome
        if self.console.is_terminal:
            self.live.refresh()
        else:
            spec, seconds = row.spec, time.monotonic() - (row.started or time.monotonic())
            rsum = (
                f"test rSum {outcome.result['metrics']['test']['rsum']:.1f}" if outcome.result else repr(outcome.error)
            )
            where = f"{spec.method} on {spec.dataset}, {spec.protocol} {spec.noise:g}, seed {spec.seed}"
            self.console.print(
                f"[{index + 1}/{len(self.rows)}] {where}: {outcome.status}, {rsum}, {seconds:.0f} s", markup=False
            )

    def table(self) -> Table:
        """Return the table as it stands."""
        table = Table(header_style="bold")
        for column in ("dataset", "method", "backbone", "protocol"):
            table.add_column(column)
        for column in ("noise", "seed"):
            table.add_column(column, justify="right")
        table.add_column("progress", width=18)
        for column in ("left", "loss", "dev rSum"):
            table.add_column(column, justify="right")
        for side, key in RECALLS:
            table.add_column(f"{side}\nR@{key[1:]}", justify="right")
        table.add_column("rSum", justify="right", style="bold")
        for row in self.rows:
            table.add_row(*self._cells(row))
        return table

    def _cells(self, row: Row) -> list[str | ProgressBar]:
        spec, progress = row.spec, row.progress
        names: list[str | ProgressBar] = [
            spec.dataset,
            spec.method,
            spec.backbone,
            spec.protocol,
            f"{spec.noise:g}",
            str(spec.seed),
        ]
        if row.outcome is not None:
            done = row.outcome.result
            scores = [""] * (len(RECALLS) + 1)
            dev = ""
            if done is not None:
                test = done["metrics"]["test"]
                scores = [*(f"{test[side][key]:.1f}" for side, key in RECALLS), f"{test['rsum']:.1f}"]
                dev = f"{done['selected']['dev_rsum']:.1f}"
            status = {"done": "done", "kept": "kept from before", "failed": "failed"}[row.outcome.status]
            return [*names, status, "", "", dev, *scores]
        if progress is None or row.started is None:
            return [*names, "waiting"]
        bar = ProgressBar(total=1.0, completed=progress.share, width=18)
        loss = "" if progress.loss is None else f"{progress.loss:.3g}"
        dev = "" if progress.dev_rsum is None else f"{progress.dev_rsum:.1f}"
        return [*names, bar, _time_left(progress.share, time.monotonic() - row.started), loss, dev]


def _time_left(share: float, elapsed: float) -> str:
    if share < 0.01:
        return "?"
    seconds = round(elapsed * (1 - share) / share)
    return f"{seconds // 60}:{seconds % 60:02d}"


@contextmanager
def watch(specs: Sequence[RunSpec], quiet: bool) -> Iterator[LiveTable]:
    """Show a sweep while it runs and its table at the end; `quiet` keeps standard output free of it."""
    shown = console(to_stderr=quiet)
    table = LiveTable(specs, shown)
    if not shown.is_terminal:
        yield table
        shown.print(table.table())
        return
    with table.live:
        yield table
        table.live.refresh()
