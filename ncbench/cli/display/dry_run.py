"""`ncbench run --dry-run`: the planned runs with their status and estimated cost."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ncbench.cli.display.live import describe, labels_of
from ncbench.cli.display.output import print_json, print_table, say
from ncbench.cli.display.quantities import duration
from ncbench.noise.ratio import ratio_in_words
from ncbench.records.store import Store
from ncbench.sweeps.estimate import Estimate, Speeds, estimate
from ncbench.sweeps.grid import PlannedRun
from ncbench.sweeps.launchers.base import Launcher, Sweep

COLUMNS = (
    "dataset",
    "method",
    "backbone",
    "protocol",
    "noise",
    "budget",
    "seed",
    "status",
    "FLOPs",
    "time",
    "estimated from",
)
NUMERIC_COLUMNS = ("noise", "budget", "seed", "FLOPs", "time")
SUBTOTALS = ("runs", "FLOPs", "time left")


def show(sweep: Sweep, launcher: Launcher, as_json: bool) -> None:
    """Print the runs in execution order with estimates, and the total. Writes nothing."""
    labels = labels_of([run.spec for run in sweep.runs])

    def on_measure(run: PlannedRun) -> None:
        click.echo(f"Measuring the speed of {describe(run.spec)} ...", err=True)

    speeds = Speeds(sweep.store, sweep.device, on_measure)
    estimates = [estimate(run, speeds.of(run), sweep.store.folder(run.spec)) for run in sweep.runs]
    statuses = [_status(sweep.store, run, cost) for run, cost in zip(sweep.runs, estimates, strict=True)]
    slots, left = launcher.slots(sweep), [cost.left for cost in estimates]
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
            for run, cost, status in zip(sweep.runs, estimates, statuses, strict=True)
        ]
        print_json({"runs": runs, "seconds_left": sum(left), "jobs": slots})
        return
    rows = [_cells(*row) for row in zip(sweep.runs, labels, statuses, estimates, strict=True)]
    print_table("Planned runs, in execution order", COLUMNS, rows, numbers=NUMERIC_COLUMNS)
    _print_subtotals(sweep.runs, estimates, slots)
    done = statuses.count("done")
    work = sum((cost.training + cost.evaluation) * (1 - cost.done) for cost in estimates)
    total = f"{len(estimates)} {'run' if len(estimates) == 1 else 'runs'}, {done} done; remaining: {work:.2g} FLOPs"
    say(f"{total}, about {duration(sum(left))} of computing{_in_parallel(left, slots)}.")
    say(
        "FLOPs include training and evaluation. Times are estimated from earlier records or a short measurement. "
        f"Nothing was run (--dry-run, --launcher {launcher.name})."
    )


def _print_subtotals(runs: Sequence[PlannedRun], estimates: Sequence[Estimate], slots: int | None) -> None:
    """Print what each method costs, if there are several."""
    by_method: dict[str, list[Estimate]] = {}
    for run, cost in zip(runs, estimates, strict=True):
        by_method.setdefault(run.spec.method, []).append(cost)
    if len(by_method) == 1:
        return
    rows = []
    for method, costs in sorted(by_method.items(), key=lambda item: -sum(cost.left for cost in item[1])):
        flops = sum(cost.training + cost.evaluation for cost in costs)
        rows.append((method, str(len(costs)), f"{flops:.2g}", duration(sum(cost.left for cost in costs))))
    print_table("By method, most expensive first", ("method", "runs", "FLOPs", "time left"), rows, SUBTOTALS)


def _in_parallel(left: list[float], slots: int | None) -> str:
    """Return a phrase with the time for the remaining runs when `slots` of them execute in parallel."""
    if slots is None or slots == 1 or not sum(left):
        return "" if slots else "; the number of runs that Slurm executes in parallel is unknown"
    free = [0.0] * slots
    for seconds in left:
        free.sort()
        free[0] += seconds
    return f", {duration(max(free))} if {slots} parallel runs do not slow each other down"


def _status(store: Store, run: PlannedRun, cost: Estimate) -> str:
    if cost.done == 1.0:
        return "done"
    folder = store.folder(run.spec)
    status = store.noted_outcome(run.spec)[0] if (folder / "spec.json").is_file() else "waiting"
    return f"{status} at {cost.done:.0%}" if cost.done else status


def _cells(run: PlannedRun, label: str, status: str, cost: Estimate) -> list[str]:
    spec = run.spec
    return [
        spec.dataset,
        f"{spec.method} ({label})" if label else spec.method,
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
