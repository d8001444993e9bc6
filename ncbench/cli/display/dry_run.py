"""`ncbench run --dry-run`: the planned runs with their status and estimated cost."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ncbench.cli.display.live import labels_of
from ncbench.cli.display.output import print_json, print_table, say
from ncbench.cli.display.quantities import duration, hours, size
from ncbench.noise.ratio import ratio_in_words
from ncbench.records.store import Store
from ncbench.runtime.device import choose_device
from ncbench.sweeps.devices import HERE, Device, device_named
from ncbench.sweeps.estimate import Estimate, Speeds, estimate
from ncbench.sweeps.grid import PlannedRun
from ncbench.sweeps.launchers.base import Launcher, Sweep
from ncbench.sweeps.observers import describe

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
SUBTOTALS = ("runs", "FLOPs", "time left", "hours left", "memory of a run")
DEVICES = (1, 2, 4, 8)
"""Numbers of devices for which the time of the sweep is printed."""


def show(sweep: Sweep, launcher: Launcher, as_json: bool, assume: str | None = None) -> None:
    """Print the runs in execution order with estimates, and the total. Writes nothing.

    With `assume`, estimates are for this measured device. Raises UserError if it is unknown.
    """
    labels = labels_of([run.spec for run in sweep.runs])

    def on_measure(run: PlannedRun) -> None:
        click.echo(f"Measuring the speed of {describe(run.spec)} ...", err=True)

    device = None
    if assume is not None:
        device = device_named(assume, choose_device(sweep.device).type if assume == HERE else "")
    speeds = Speeds(sweep.store, sweep.device, on_measure, device)
    estimates = [estimate(run, speeds.of(run), sweep.store.folder(run.spec)) for run in sweep.runs]
    statuses = [_status(sweep.store, run, cost) for run, cost in zip(sweep.runs, estimates, strict=True)]
    slots = _slots(sweep, launcher, elsewhere=assume not in (None, HERE))
    left = [cost.left for cost in estimates]
    assumed = _assumptions(estimates, device)
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
                "peak_bytes": cost.peak,
                "peak_is_floor": cost.peak_is_floor,
            }
            for run, cost, status in zip(sweep.runs, estimates, statuses, strict=True)
        ]
        devices = {str(count): spread(left, count) for count in DEVICES}
        sums = {"seconds_left": sum(left), "jobs": slots, "seconds_on_devices": devices, "assumed": assumed}
        print_json({"runs": runs, **sums})
        return
    rows = [_cells(*row) for row in zip(sweep.runs, labels, statuses, estimates, strict=True)]
    print_table("Planned runs, in execution order", COLUMNS, rows, numbers=NUMERIC_COLUMNS)
    _print_subtotals(sweep.runs, estimates)
    done = statuses.count("done")
    work = sum((cost.training + cost.evaluation) * (1 - cost.done) for cost in estimates)
    total = f"{len(estimates)} {'run' if len(estimates) == 1 else 'runs'}, {done} done; remaining: {work:.2g} FLOPs"
    say(f"{total}, about {duration(sum(left))} ({hours(sum(left))}) of computing{_in_parallel(left, slots)}.")
    if sum(left) and len(left) - done > 1:
        times = ", ".join(f"{count}: {duration(spread(left, count))}" for count in DEVICES)
        say(f"By number of devices, with one run at a time on each: {times}. Longest run: {duration(max(left))}.")
    say(f"Peak memory of a run: {_memory(estimates)}.")
    say(f"Assumed: {assumed}.")
    say(f"FLOPs include training and evaluation. Nothing was run (--dry-run, --launcher {launcher.name}).")


def _slots(sweep: Sweep, launcher: Launcher, elsewhere: bool) -> int | None:
    """Return the number of runs at a time; on a device `elsewhere` one, unless --jobs says otherwise."""
    if elsewhere:
        return sweep.jobs or (None if launcher.name == "slurm" else 1)
    return launcher.slots(sweep)


def spread(left: Sequence[float], slots: int) -> float:
    """Return the seconds for runs that take `left` seconds each, `slots` of them at a time, in this order."""
    free = [0.0] * slots
    for seconds in left:
        free.sort()
        free[0] += seconds
    return max(free)


def _assumptions(estimates: Sequence[Estimate], device: Device | None) -> str:
    """Return what estimates of time and memory rest on."""
    if device is not None:
        return (
            f"{device.words}; every method trains as fast per FLOP as plain training does there, and work outside of "
            "networks takes no time"
        )
    sources = list(dict.fromkeys(cost.source for cost in estimates))
    return f"runs are as fast as those of the same kind were: {', '.join(sources)}"


def _memory(estimates: Sequence[Estimate]) -> str:
    """Return the highest expected peak of any run, and what is known of it."""
    if not estimates:
        return "unknown"
    highest = max(estimates, key=lambda cost: cost.peak)
    if highest.peak_is_floor:
        return f"at least {size(highest.peak)} for features, weights and similarities; activations come on top"
    return f"about {size(highest.peak)} ({highest.source})"


def _print_subtotals(runs: Sequence[PlannedRun], estimates: Sequence[Estimate]) -> None:
    """Print what each method costs, if there are several."""
    by_method: dict[str, list[Estimate]] = {}
    for run, cost in zip(runs, estimates, strict=True):
        by_method.setdefault(run.spec.method, []).append(cost)
    if len(by_method) == 1:
        return
    rows = []
    for method, costs in sorted(by_method.items(), key=lambda item: -sum(cost.left for cost in item[1])):
        flops = sum(cost.training + cost.evaluation for cost in costs)
        left = sum(cost.left for cost in costs)
        highest = max(costs, key=lambda cost: cost.peak)
        memory = f"{'at least ' if highest.peak_is_floor else ''}{size(highest.peak)}"
        rows.append((method, str(len(costs)), f"{flops:.2g}", duration(left), f"{left / 3600:.2g}", memory))
    print_table("By method, most expensive first", ("method", *SUBTOTALS), rows, SUBTOTALS)


def _in_parallel(left: list[float], slots: int | None) -> str:
    """Return a phrase with the time for the remaining runs when `slots` of them execute in parallel."""
    if slots is None or slots == 1 or not sum(left):
        return "" if slots else "; the number of runs that Slurm executes in parallel is unknown"
    return f", {duration(spread(left, slots))} if {slots} parallel runs do not slow each other down"


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
