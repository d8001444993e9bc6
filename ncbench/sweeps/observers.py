"""Observers of sweeps that are run from Python: bars on a terminal or in a notebook, or a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ncbench.errors import ArgumentError
from ncbench.noise.ratio import noise_in_words
from ncbench.records.progress import Progress
from ncbench.records.spec import RunSpec

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from ncbench.sweeps.execution import Observer, Outcome

REFRESH_SECONDS = 0.25


def describe(spec: RunSpec, label: str = "") -> str:
    """Return a one-line description of a run; `label` tells it from others of its method, see `ncbench.cli.display`."""
    noise = noise_in_words(spec.protocol, spec.noise)
    method = f"{spec.method} ({label})" if label else spec.method
    return f"{method} with {spec.backbone} on {spec.dataset}, {noise}, seed {spec.seed}"


@dataclass(frozen=True)
class RunProgress:
    """What `progress` functions of `ncbench.run` are called with: how far one of several runs is.

    `number` counts from 1 to `runs`. `share` is the part of the budget that is spent, `loss` the latest, `dev_rsum` the
    best so far; None before there is one. `doing` is what the run does, such as "training". Once it is `over`, this is
    its status: "done", "kept" if it was done before, or "failed".
    """

    number: int
    runs: int
    title: str
    share: float
    loss: float | None
    dev_rsum: float | None
    doing: str
    over: bool = False


class Told:
    """A sweep observer that tells a function."""

    def __init__(self, specs: Sequence[RunSpec], tell: Callable[[RunProgress], object]) -> None:
        self._titles, self._tell = [describe(spec) for spec in specs], tell
        self._latest: dict[int, Progress] = {}

    def started(self, index: int) -> None:
        """Tell that a run starts."""
        self._call(index, Progress(0.0, None, None, "starting"))

    def progressed(self, index: int, progress: Progress) -> None:
        """Tell how far it is."""
        self._latest[index] = progress
        self._call(index, progress)

    def ended(self, index: int, outcome: Outcome) -> None:
        """Tell how it ended: at the whole budget, or where it was."""
        latest = self._latest.get(index, Progress(0.0, None, None, ""))
        share, best = latest.share, latest.dev_rsum
        if outcome.result is not None:
            share, best = 1.0, outcome.result.selected.dev_rsum
        self._call(index, Progress(share, latest.loss, best, outcome.status), over=True)

    def _call(self, index: int, now: Progress, over: bool = False) -> None:
        title, runs = self._titles[index], len(self._titles)
        self._tell(RunProgress(index + 1, runs, title, now.share, now.loss, now.dev_rsum, now.doing, over))


class Bars:
    """Draws a bar per run that has started, and one for all of them.

    Nothing is drawn from another thread: a fork of this process, as every run is one, would inherit its locks.
    """

    def __init__(self, runs: int, shown: Bar) -> None:
        self._shown = shown
        self._all = shown.add_task("runs", total=runs, facts="")
        self._bars: dict[int, TaskID] = {}
        self._drawn = 0.0

    def __call__(self, now: RunProgress) -> None:
        """Draw how far a run is, at most a few times per second unless it starts or ends."""
        new = now.number not in self._bars
        if new:
            self._bars[now.number] = self._shown.add_task(now.title, total=1.0, facts="")
        facts = [now.doing]
        facts += [f"loss {now.loss:.3g}"] if now.loss is not None else []
        facts += [f"dev rSum {now.dev_rsum:.1f}"] if now.dev_rsum is not None else []
        self._shown.update(self._bars[now.number], completed=now.share, facts=f": {', '.join(facts)}")
        if now.over:
            self._shown.advance(self._all)
        if new or now.over or time.monotonic() - self._drawn > REFRESH_SECONDS:
            self._drawn = time.monotonic()
            self._shown.refresh()


@contextmanager
def observing(specs: Sequence[RunSpec], progress: bool | Callable[[RunProgress], object] | None) -> Iterator[Observer]:
    """Yield the observer for the argument `progress` of `ncbench.run`: bars, a function that is told, or silence.

    None stands for bars on a terminal and in a notebook, and silence elsewhere. Raises ArgumentError.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Shown
    from rich.table import Column

    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise ArgumentError(f"progress: expected True, False, None or a function of a RunProgress, found {progress!r}")
    if callable(progress):
        yield Told(specs, progress)
        return
    console = Console(stderr=True)
    if progress is False or (progress is None and not (console.is_terminal or console.is_jupyter)):
        yield Told(specs, lambda _: None)
        return
    columns = (
        BarColumn(12),
        TaskProgressColumn(table_column=Column(min_width=4)),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TextColumn("{task.description}{task.fields[facts]}", table_column=Column(ratio=1)),
    )
    shown = Shown(*columns, console=console, auto_refresh=False, expand=True)
    with shown:
        yield Told(specs, Bars(len(specs), shown))
