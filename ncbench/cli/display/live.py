"""The live table of a sweep: one row per run with its progress, remaining time, loss and dev rSum."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ncbench.cli.display.layout import BORDERS
from ncbench.cli.display.output import console
from ncbench.cli.display.verbosity import verbosity
from ncbench.data.same_names import told_apart
from ncbench.noise.ratio import ratio_in_words
from ncbench.records.progress import MIN_SHARE, Progress, resumed_share
from ncbench.records.spec import RunSpec
from ncbench.records.variants import settings_to_name
from ncbench.sweeps.observers import describe

if TYPE_CHECKING:
    from ncbench.sweeps.execution import Outcome

REFRESH_SECONDS = 0.25
BAR_WIDTH, NARROW_BAR = 18, 12  # the narrow one, on terminals of less than 100 columns, still holds every status
NAMES = ("dataset", "method", "backbone", "protocol", "noise", "seed", "resumed at")
NUMBERS = ("noise", "seed", "resumed at")  # of the names, those that say nothing without their heading
STACKED = "run"  # heading of the column that replaces NAMES on narrow terminals
RECALLS = tuple((side, key) for side in ("i2t", "t2i") for key in ("r1", "r5", "r10"))
RECALL_COLUMNS = tuple(f"{side}\nR@{key[1:]}" for side, key in RECALLS)
COLUMNS = (*NAMES, "progress", "left", "loss", "dev rSum", *RECALL_COLUMNS, "rSum")

Cells: TypeAlias = "dict[str, str | ProgressBar]"


def labels_of(specs: Sequence[RunSpec]) -> list[str]:
    """Return for each run the settings, budget and data that distinguish it from others of its method; often "".

    Runs with the settings of the preset are told by the bare name of the method.
    """
    from ncbench.method.registry import preset_of

    datasets = told_apart((spec.dataset, spec.dataset_digest) for spec in specs)
    labels = dict[int, str]()
    for method in dict.fromkeys(spec.method for spec in specs):
        alike = [number for number, spec in enumerate(specs) if spec.method == method]
        presets = (preset_of(method, specs[number].source, specs[number].dataset) for number in alike)
        named = settings_to_name([specs[number].settings for number in alike], presets)
        budgets = {specs[number].budget for number in alike}
        for number, details in zip(alike, named, strict=True):
            spec = specs[number]
            if len(budgets) > 1:
                details.append(f"budget {spec.budget}")
            if (dataset := datasets[spec.dataset, spec.dataset_digest]) != spec.dataset:
                details.append(dataset)
            labels[number] = ", ".join(details)
    return [labels[number] for number in range(len(specs))]


@dataclass
class Row:
    """The current state of one run."""

    spec: RunSpec
    label: str = ""
    started: float | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None
    resumed_share: float | None = None

    @property
    def resumed_at(self) -> str:
        """The share at which the run was resumed, in words; "" if it was not."""
        share = self.resumed_share
        if share is None and self.progress is not None:
            share = self.progress.resumed_at
        return "" if share is None else f"{share:.0%}"


class LiveTable:
    """A sweep observer that updates a table on a terminal, and prints a line per run elsewhere.

    If `silent`, it does neither.
    """

    def __init__(self, specs: Sequence[RunSpec], console: Console, silent: bool = False) -> None:
        self.rows = [Row(spec, label) for spec, label in zip(specs, labels_of(specs), strict=True)]
        self.console, self.silent = console, silent
        self.bar = BAR_WIDTH if console.width >= 100 else NARROW_BAR
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
        self.remember(index, outcome)
        row = self.rows[index]
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
                facts.append(outcome.message)
            line = (
                f"[{index + 1}/{len(self.rows)}] {describe(row.spec, row.label)}: {', '.join(facts)}, {seconds:.0f} s"
            )
            self.console.print(line, markup=False, highlight=False)

    def remember(self, index: int, outcome: Outcome) -> None:
        """Keep the outcome of a run for the table."""
        row = self.rows[index]
        row.outcome = outcome
        if outcome.result is not None:
            row.resumed_share = resumed_share(outcome.folder)

    def table(self) -> Table:
        """Return the current table, without columns that say nothing, and as wide as the terminal allows.

        Nothing is cut: columns that matter less are left out, and the names of a run are stacked.
        """
        columns, rows, common = self._fitting()
        table = Table(title=Text(common) if common else None, title_justify="left", header_style="bold")
        for column in columns:
            if column == "progress":
                table.add_column(column, width=self.bar, overflow="fold")
            else:
                left = column in (STACKED, *NAMES) and column not in NUMBERS
                style = "bold" if column == "rSum" else None
                table.add_column(column, justify="left" if left else "right", style=style, overflow="fold")
        for row in rows:
            table.add_row(*(row.get(column, "") for column in columns))
        return table

    def _fitting(self) -> tuple[list[str], list[Cells], str]:
        """Return the columns that fit, the cells of each row, and a title with the names that all rows share."""
        rows = [self._cells(row) for row in self.rows]
        columns = [column for column in COLUMNS if column not in NAMES or any(row[column] for row in rows)]
        if all(row.outcome is not None for row in self.rows):
            columns = [column for column in columns if any(row.get(column) for row in rows)]
        if self._fits(columns, rows):
            return columns, rows, ""
        names = [column for column in NAMES if column in columns and column != "resumed at"]
        same = [name for name in names if name != "method" and len({row[name] for row in rows}) == 1]
        common = ", ".join(_named(name, rows[0]) for name in same)
        columns = [column for column in columns if column not in same]
        for least_needed in (RECALL_COLUMNS, ("loss",), ("left",)):
            if self._fits(columns, rows):
                return columns, rows, common
            columns = [column for column in columns if column not in least_needed]
        if not self._fits(columns, rows):
            stacked = [column for column in columns if column in NAMES]
            columns = [STACKED, *(column for column in columns if column not in NAMES)]
            rows = [{**row, STACKED: _stacked(stacked, row)} for row in rows]
        if not self._fits(columns, rows):
            columns.remove("dev rSum")
        return columns, rows, common

    def _fits(self, columns: Sequence[str], rows: Sequence[Cells]) -> bool:
        return sum(_width(name, [row.get(name, "") for row in rows], self.bar) for name in columns) < self.console.width

    def _cells(self, row: Row) -> Cells:
        """Return the cells of a row, by column; those without content may be missing."""
        spec, progress = row.spec, row.progress
        cells: Cells = {
            "dataset": spec.dataset,
            "method": f"{spec.method} ({row.label})" if row.label else spec.method,
            "backbone": spec.backbone,
            "protocol": spec.protocol,
            "noise": ratio_in_words(spec.protocol, spec.noise),
            "seed": str(spec.seed),
            "resumed at": row.resumed_at,
        }
        if row.outcome is not None:
            cells["progress"] = {"kept": "already done"}.get(row.outcome.status, row.outcome.status)
            done = row.outcome.result
            if done is not None:
                test = done.metrics.test
                scores = [f"{getattr(getattr(test, side), key):.1f}" for side, key in RECALLS]
                cells |= dict(zip(RECALL_COLUMNS, scores, strict=True))
                cells |= {"dev rSum": f"{done.selected.dev_rsum:.1f}", "rSum": f"{test.rsum:.1f}"}
            return cells
        if progress is None or row.started is None:
            return {**cells, "progress": "waiting"}
        left = progress.left
        gained = progress.share - (progress.resumed_at or 0.0)
        if left is None and gained >= MIN_SHARE:
            left = (time.monotonic() - row.started) * (1 - progress.share) / gained
        return {
            **cells,
            "progress": ProgressBar(total=1.0, completed=progress.share, width=self.bar),
            "left": "?" if left is None else clock(left),
            "loss": "" if progress.loss is None else f"{progress.loss:.3g}",
            "dev rSum": "" if progress.dev_rsum is None else f"{progress.dev_rsum:.1f}",
        }


def _named(name: str, row: Cells) -> str:
    """Return a cell as it reads without its heading."""
    return f"{name} {row[name]}" if name in NUMBERS else str(row[name])


def _stacked(names: Sequence[str], row: Cells) -> str:
    """Return the names of a run in two lines: the method, and what else distinguishes it."""
    rest = ", ".join(_named(name, row) for name in names if name != "method" and row[name])
    return "\n".join(text for text in (str(row["method"]), rest) if text)


def _width(heading: str, cells: Sequence[str | ProgressBar], bar: int) -> int:
    """Return the terminal columns that a column takes, borders included."""
    if heading == "progress":
        return bar + BORDERS
    lines = [line for text in (heading, *cells) if isinstance(text, str) for line in text.split("\n")]
    return max(map(cell_len, lines)) + BORDERS


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
