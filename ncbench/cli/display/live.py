"""The live table of a sweep: one row per run with its progress, remaining time, loss and dev rSum."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ncbench.cli.display.layout import BORDERS
from ncbench.cli.display.output import PIPE_WIDTH, console
from ncbench.cli.display.verbosity import verbosity
from ncbench.data.same_names import told_apart
from ncbench.errors import error_message
from ncbench.noise.ratio import noise_in_words, ratio_in_words
from ncbench.records.progress import MIN_SHARE, Progress
from ncbench.records.spec import RunSpec

if TYPE_CHECKING:
    from ncbench.sweeps.execution import Outcome

REFRESH_SECONDS = 0.25
BAR_WIDTH, NARROW_BAR = 18, 11  # the narrow one, on terminals of less than 80 columns, still holds every status
RECALLS = tuple((side, key) for side in ("i2t", "t2i") for key in ("r1", "r5", "r10"))


def describe(spec: RunSpec, label: str = "") -> str:
    """Return a one-line description of a run; `label` is its entry in `labels_of`."""
    noise = noise_in_words(spec.protocol, spec.noise)
    method = f"{spec.method} ({label})" if label else spec.method
    return f"{method} with {spec.backbone} on {spec.dataset}, {noise}, seed {spec.seed}"


def labels_of(specs: Sequence[RunSpec]) -> list[str]:
    """Return for each run the settings, budget and data that distinguish it from others of its method; often ""."""
    labels = []
    datasets = told_apart((spec.dataset, spec.dataset_digest) for spec in specs)
    for spec in specs:
        alike = [other for other in specs if other.method == spec.method]
        differing = [f"{k}={v}" for k, v in spec.settings.items() if any(other.settings.get(k) != v for other in alike)]
        budgets = {other.budget for other in alike}
        if len(budgets) > 1:
            differing.append(f"budget {spec.budget}")
        if (dataset := datasets[spec.dataset, spec.dataset_digest]) != spec.dataset:
            differing.append(dataset)
        labels.append(", ".join(differing))
    return labels


@dataclass
class Row:
    """The current state of one run."""

    spec: RunSpec
    label: str = ""
    started: float | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None

    @property
    def resumed_at(self) -> str:
        """The share at which the run was resumed, in words; "" if it was not."""
        share = self.progress.resumed_at if self.progress else None
        return "" if share is None else f"{share:.0%}"


class LiveTable:
    """A sweep observer that updates a table on a terminal, and prints a line per run elsewhere.

    If `silent`, it does neither.
    """

    def __init__(self, specs: Sequence[RunSpec], console: Console, silent: bool = False) -> None:
        self.rows = [Row(spec, label) for spec, label in zip(specs, labels_of(specs), strict=True)]
        self.console, self.silent = console, silent
        self.bar = BAR_WIDTH if console.width >= 80 else NARROW_BAR
        self.live = Live(console=console, auto_refresh=False, get_renderable=self.table)
        self.refreshed = 0.0

    def started(self, index: int) -> None:
        """Record when a run starts."""
        self.rows[index].started = time.monotonic()

    def progressed(self, index: int, progress: Progress) -> None:
        """Show the progress of a run, at most a few times per second."""
        self.rows[index].progress = progress
        now = time.monotonic()
        if not self.silent and self.console.is_terminal and now - self.refreshed > REFRESH_SECONDS:
            self.refreshed = now
            self.live.refresh()

    def ended(self, index: int, outcome: Outcome) -> None:
        """Show the outcome of a run."""
        row = self.rows[index]
        row.outcome = outcome
        if self.silent:
            return
        if self.console.is_terminal:
            self.live.refresh()
        elif outcome.status != "kept":
            seconds = time.monotonic() - (row.started or time.monotonic())
            facts: list[str] = [outcome.status]
            if row.resumed_at:
                facts.append(f"resumed at {row.resumed_at}")
            if outcome.result is not None:
                facts.append(f"test rSum {outcome.result.metrics.test.rsum:.1f}")
            elif outcome.error is not None:
                facts.append(error_message(outcome.error).rstrip("."))
            line = (
                f"[{index + 1}/{len(self.rows)}] {describe(row.spec, row.label)}: {', '.join(facts)}, {seconds:.0f} s"
            )
            self.console.print(line, markup=False, highlight=False)

    def table(self) -> Table:
        """Return the current table."""
        columns = ["dataset", "method", "backbone", "protocol", "noise", "seed", "resumed at"]
        columns += ["progress", "left", "loss", "dev rSum"]
        columns += [f"{side}\nR@{key[1:]}" for side, key in RECALLS] + ["rSum"]
        rows = [self._cells(row) for row in self.rows]
        shown, common = self._fitting(columns, rows)
        table = Table(title=common or None, title_justify="left", header_style="bold")
        for column in (columns[place] for place in shown):
            if column == "progress":
                table.add_column(column, width=self.bar)
            else:
                left = column in ("dataset", "method", "backbone", "protocol")
                style = "bold" if column == "rSum" else None
                table.add_column(column, justify="left" if left else "right", style=style)
        for cells in rows:
            table.add_row(*(cells[place] for place in shown if place < len(cells)))
        return table

    def _fitting(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[list[int], str]:
        """Return the indices of the columns that fit, and a title with the values that all rows share."""
        shown = [p for p, column in enumerate(columns) if column != "resumed at" or any(r[p] for r in rows)]
        if all(row.outcome is not None for row in self.rows):
            shown = [p for p in shown if any(cells[p] for cells in rows)]
        if self.console.width >= PIPE_WIDTH:
            return shown, ""
        same = [p for p, column in enumerate(columns[:6]) if column != "method" and len({r[p] for r in rows}) == 1]
        words = ", ".join(str(rows[0][p]) if p not in (4, 5) else f"{columns[p]} {rows[0][p]}" for p in same)
        shown = [p for p in shown if p not in same and "R@" not in columns[p]]
        for least_needed in ("loss", "left", "resumed at", "dev rSum"):
            needed = (_width(columns[p], [cells[p] for cells in rows if p < len(cells)], self.bar) for p in shown)
            if sum(needed) < self.console.width:
                break
            shown = [p for p in shown if columns[p] != least_needed]
        return shown, words

    def _cells(self, row: Row) -> list[str | ProgressBar]:
        spec, progress = row.spec, row.progress
        names: list[str | ProgressBar] = [
            spec.dataset,
            f"{spec.method} ({row.label})" if row.label else spec.method,
            spec.backbone,
            spec.protocol,
            ratio_in_words(spec.protocol, spec.noise),
            str(spec.seed),
            row.resumed_at,
        ]
        if row.outcome is not None:
            done = row.outcome.result
            scores = [""] * (len(RECALLS) + 1)
            dev = ""
            if done is not None:
                test = done.metrics.test
                scores = [f"{getattr(getattr(test, side), key):.1f}" for side, key in RECALLS]
                scores.append(f"{test.rsum:.1f}")
                dev = f"{done.selected.dev_rsum:.1f}"
            status = {"kept": "already done"}.get(row.outcome.status, row.outcome.status)
            return [*names, status, "", "", dev, *scores]
        if progress is None or row.started is None:
            return [*names, "waiting"]
        bar = ProgressBar(total=1.0, completed=progress.share, width=self.bar)
        loss = "" if progress.loss is None else f"{progress.loss:.3g}"
        dev = "" if progress.dev_rsum is None else f"{progress.dev_rsum:.1f}"
        left = progress.left
        gained = progress.share - (progress.resumed_at or 0.0)
        if left is None and gained >= MIN_SHARE:
            left = (time.monotonic() - row.started) * (1 - progress.share) / gained
        return [*names, bar, "?" if left is None else clock(left), loss, dev]


def _width(heading: str, cells: Sequence[object], bar: int) -> int:
    """Return the terminal columns that a column takes, borders included."""
    texts = [cell_len(cell) if isinstance(cell, str) else bar for cell in cells]
    return max([cell_len(heading), *texts]) + BORDERS


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


@contextmanager
def watch(specs: Sequence[RunSpec], quiet: bool) -> Iterator[LiveTable]:
    """Show a sweep while it runs, and its table at the end; if `quiet`, on standard error.

    With --quiet, show only the final table, and nothing at all if `quiet` too.
    """
    shown, silent = console(to_stderr=quiet), verbosity().quiet
    table = LiveTable(specs, shown, silent)
    if silent or not shown.is_terminal:
        yield table
        if not (silent and quiet):
            shown.print(table.table())
        return
    with table.live:
        yield table
        table.live.refresh()
