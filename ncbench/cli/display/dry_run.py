"""`ncbench run --dry-run`: the runs of a sweep, what is done of them, and what the rest is expected to cost."""

from __future__ import annotations

import math

import click

from ncbench.cli.display.live import describe, told_apart
from ncbench.cli.display.output import print_json, print_table
from ncbench.noise.ratio import ratio_in_words
from ncbench.records.store import Store
from ncbench.sweeps.estimate import Estimate, Speeds, estimate
from ncbench.sweeps.grid import PlannedRun
from ncbench.sweeps.launchers.base import Launcher, Sweep

COLUMNS = ("dataset", "method", "backbone", "protocol", "noise", "budget", "seed", "status", "FLOPs", "time", "from")
NUMBERS = ("noise", "budget", "seed", "FLOPs", "time")


def show(sweep: Sweep, launcher: Launcher, as_json: bool) -> None:
    """Print the runs in the order in which they are executed, with estimates, and the total; write nothing."""
    told = told_apart([run.spec for run in sweep.runs])

    def measuring(run: PlannedRun) -> None:
        click.echo(f"Measuring the speed of {describe(run.spec)} ...", err=True)

    speeds = Speeds(sweep.store, sweep.device, measuring)
    found = [estimate(run, speeds.of(run), sweep.store.folder(run.spec)) for run in sweep.runs]
    statuses = [_status(sweep.store, run, cost) for run, cost in zip(sweep.runs, found, strict=True)]
    slots, left = launcher.slots(sweep), [cost.left for cost in found]
    if as_json:
        runs = [
            {
                "id": run.spec.id,
                "dataset": run.spec.dataset,
                "method": run.spec.method,
                "backbone": run.spec.backbone,
                "protocol": run.spec.protocol,
                "noise": run.spec.noise,
                "budget": str(run.spec.budget),
                "seed": run.spec.seed,
                "status": status,
                "training_flops": cost.training,
                "evaluation_flops": cost.evaluation,
                "seconds": cost.seconds,
                "seconds_left": cost.left,
                "speed": cost.source,
            }
            for run, cost, status in zip(sweep.runs, found, statuses, strict=True)
        ]
        print_json({"runs": runs, "seconds_left": sum(left), "jobs": slots})
        return
    rows = [_cells(*facts) for facts in zip(sweep.runs, told, statuses, found, strict=True)]
    print_table("Runs in the order in which they are executed", COLUMNS, rows, numbers=NUMBERS)
    done = statuses.count("done")
    work = sum((cost.training + cost.evaluation) * (1 - cost.done) for cost in found)
    total = f"{len(found)} {'run' if len(found) == 1 else 'runs'}, {done} done; to do: {work:.2g} FLOPs"
    click.echo(f"{total}, about {duration(sum(left))} of computing{_at_a_time(left, slots)}.")
    click.echo(
        "FLOPs are of training and evaluation, by the cost formulas; times follow from the speed of the records or the "
        f"measurement named beside them. Nothing was run (--dry-run, --launcher {launcher.name})."
    )


def duration(seconds: float) -> str:
    """Return seconds in words that are no more exact than an estimate: 40 s, 12 min, 5.5 h, 3.2 d."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def _at_a_time(left: list[float], slots: int | None) -> str:
    """Return in words how long that takes with so many runs at a time, each beginning as soon as one ends."""
    if slots is None or slots == 1 or not sum(left):
        return "" if slots else "; how many runs Slurm admits at a time is not known here"
    free = [0.0] * slots
    for seconds in left:
        free.sort()
        free[0] += seconds
    return f": {duration(max(free))} if the {slots} at a time do not slow each other"


def _status(store: Store, run: PlannedRun, cost: Estimate) -> str:
    if cost.done == 1.0:
        return "done"
    folder = store.folder(run.spec)
    status = store.how_it_ended(run.spec)[0] if (folder / "spec.json").is_file() else "waiting"
    return f"{status} at {cost.done:.0%}" if cost.done else status


def _cells(run: PlannedRun, told: str, status: str, cost: Estimate) -> list[str]:
    spec = run.spec
    return [
        spec.dataset,
        f"{spec.method} ({told})" if told else spec.method,
        spec.backbone,
        spec.protocol,
        ratio_in_words(spec.protocol, spec.noise),
        str(spec.budget),
        str(spec.seed),
        status,
        f"{cost.training + cost.evaluation:.2g}",
        "-" if status == "done" else duration(cost.left),
        cost.source,
    ]
