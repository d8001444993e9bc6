"""A board of short runs on `scenes` for `sweeps.py`: are cores busy, do runs start at once, is the dataset shared?

Cores are busy as far as runs use processor time: (that of all processes) / (wall time x jobs). Other work on the
machine lowers it; `others` says how much of the cores' time went there, and `busy` leaves that time out.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from ncbench.budget import Budget
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.sweeps.execution import Outcome
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.sweeps.launchers import make_launcher
from ncbench.sweeps.launchers.base import Sweep
from ncbench.sweeps.record import record_for

METHODS = ("triplet", "infonce", "rce")
RATIOS = (0.2, 0.4, 0.6, 0.8)
MIB = 2**20
MEMORY = ("Rss", "Pss", "Private_Dirty")


@dataclass
class Moments:
    """A watcher that notes when runs start, first make progress and end, and looks at the memory of processes once."""

    started_at: dict[int, float] = field(default_factory=dict)
    first_update: dict[int, float] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    memory: list[dict[str, float]] = field(default_factory=list)

    def started(self, index: int) -> None:
        """A run has started."""
        self.started_at[index] = time.time()

    def progressed(self, index: int, progress: Progress) -> None:
        """A run has made progress."""
        self.first_update.setdefault(index, time.time())
        if not self.memory and len(self.ended_at) > 2:
            self.memory = [found for process in descendants(os.getpid()) if (found := memory_of(process))]

    def ended(self, index: int, outcome: Outcome) -> None:
        """A run has ended."""
        self.ended_at[index] = time.time()


def descendants(process: int) -> list[int]:
    """Return the processes that `process` and its children started."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def memory_of(process: int) -> dict[str, float]:
    """Return the memory of a process in MiB: all of it, its part of it, and what it alone has written; {} if over."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    sizes = {name: int(rest.split()[0]) / 1024 for name, rest in (line.split(":", 1) for line in lines)}
    return {name: sizes[name] for name in MEMORY}


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def busy_seconds() -> float:
    """Return the processor time that all processes of the machine and its host have used, over all cores."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = fields
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def measure_board(count: int, jobs: int, budget: float, root: Path) -> dict[str, object]:
    """Execute `count` runs, `jobs` at a time, and return what they took in seconds, and memory in MiB.

    "first" is what the first run of each job took to start, "start" the median of the later ones: from the decision to
    start it until its training begins; "to first update" until the parent knows of its first update. "lag" is the most
    that passed from a result being written to the parent knowing it.
    """
    seeds = range(-(-count // (len(METHODS) * len(RATIOS))))
    grid = Grid(["scenes"], ["shuffle-images"], list(RATIOS), list(METHODS), [], [Budget(budget)], list(seeds), 1)
    since, used, busy = time.time(), processor_seconds(), busy_seconds()
    runs = plan_sweep(grid)[:count]
    planned = time.time() - since
    store, watcher = Store(root), Moments()
    sweep = Sweep(grid, runs, store, record_for(root, [run.spec for run in runs]), "cpu", jobs)
    sweep.record.write([run.spec for run in runs], {})
    outcomes = list(make_launcher("processes").launch(sweep, watcher))
    wall, ours = time.time() - since, processor_seconds() - used
    assert [outcome.status for outcome in outcomes] == ["done"] * count
    others = max(0.0, busy_seconds() - busy - ours)
    begun: dict[int, float] = {}
    lags, own = [], 0.0
    measured = {record.result.id: record.measurements for record in store.results()}
    for index, run in enumerate(runs):
        measurements = measured[run.spec.id]
        assert measurements is not None
        begun[index] = measurements.started - watcher.started_at[index]
        own += measurements.seconds.total
        lags.append(watcher.ended_at[index] - (store.folder(run.spec) / "result.json").stat().st_mtime)
    later = sorted(watcher.started_at, key=watcher.started_at.__getitem__)[jobs:]
    firsts = [index for index in watcher.started_at if index not in later]
    cores = len(os.sched_getaffinity(0))
    free = wall * cores - others
    return {
        "runs": count,
        "jobs": jobs,
        "planning": planned,
        "wall": wall,
        "processor": ours,
        "of cores": ours / (wall * jobs),
        "busy": ours / min(wall * jobs, free),
        "others": others / (wall * cores),
        "measured by runs": own,
        "first": max(begun[index] for index in firsts),
        "start": statistics.median(begun[index] for index in later),
        "slowest start": max(begun[index] for index in later),
        "to first update": statistics.median(watcher.first_update[i] - watcher.started_at[i] for i in later),
        "lag": max(lags),
        "memory": watcher.memory,
    }
