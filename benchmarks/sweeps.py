"""Measure what sweeps cost in addition to their runs: time and files per run, and scanning a large folder of records.

Usage: python benchmarks/sweeps.py [--part trivial --part scans --part board] [--runs 1000] [--records 10000]
           [--repeats 3] [--board 60] [--jobs 2] [--budget 0.2] [--folder DIR] [--out FILE.json]

A trivial run trains `triplet` with a `vse` of width 16 for one or two updates on the few pairs in tests/fixtures/f30k.
Each single-machine launcher executes all of them. The time that the runs do not measure themselves (training,
evaluation, checkpoints) is the cost of planning, leases, recording and dispatching. Then the record of one run is
copied under other seeds, ratios and methods to make RECORDS records, and everything that `ncbench report` reads from
them is read. Besides wall time, CPU time is reported, because other work on the machine affects it less. Last, a board
of short runs on `scenes` shows whether cores are busy, how fast runs start and what they share: see `busy_cores.py`.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from busy_cores import measure_board

from ncbench.budget import Budget
from ncbench.cli.display.output import print_table
from ncbench.method.settings import parse_override
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.records.table import load_runs
from ncbench.report.figures.training_curves import load_training_curves
from ncbench.runtime import environment
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.sweeps.launchers import make_launcher
from ncbench.sweeps.launchers.base import Sweep
from ncbench.sweeps.record import record_for

DATA = Path(__file__).parents[1] / "tests" / "fixtures" / "f30k"
SMALL = ("backbone.embed=16", "backbone.word=8", "backbone.similarity=8", "triplet.batch_size=16")
GRID = Grid(
    datasets=["f30k"],
    protocols=["shuffle-images"],
    ratios=[0.2],
    methods=["triplet"],
    backbones=["vse"],
    budgets=[Budget(0.3)],
    seeds=[0],
    evaluations=1,
    overrides=[parse_override(text) for text in SMALL],
    data_root=DATA,
)
METHODS = ("triplet", "infonce", "rce", "ncr", "decl", "bicro", "mscn", "rcl", "crcl", "gsc", "l2rm", "oracle")
RATIOS = (0.0, 0.2, 0.4, 0.5, 0.6)
LAUNCHERS = {"here": 1, "processes": 2}
PARTS = ("trivial", "scans", "board")


class NullWatcher:
    """A watcher that ignores everything."""

    def started(self, index: int) -> None:
        """A run has started."""

    def progressed(self, index: int, progress: Progress) -> None:
        """A run has made progress."""

    def ended(self, index: int, outcome: object) -> None:
        """A run has ended."""


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Store wall and CPU seconds of the block in `into`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into[f"{name} wall"] = time.perf_counter() - wall
    into[f"{name} cpu"] = time.process_time() - cpu


def run_trivial(name: str, jobs: int, count: int, root: Path) -> dict[str, float]:
    """Execute `count` trivial runs with a launcher, and return seconds and files per run."""
    found: dict[str, float] = {}
    grid, store = replace(GRID, seeds=range(count)), Store(root)
    with timed(found, "planning"):
        runs = plan_sweep(grid)
    record = record_for(root, [run.spec for run in runs])
    with timed(found, "all"):
        record.write([run.spec for run in runs], {})
        sweep = Sweep(grid, runs, store, record, "cpu", jobs)
        ends = [outcome.status for outcome in make_launcher(name).launch(sweep, NullWatcher())]
    assert ends == ["done"] * count
    own = sum(record.measurements.seconds.total for record in store.results() if record.measurements)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {
        "planning": found["planning wall"] / count,
        "seconds": found["all wall"] / count,
        "own": own / jobs / count,
        "files": len(files) / count,
        "bytes": sum(path.stat().st_size for path in files) / count,
    }


def make_records(source: Path, root: Path, count: int) -> None:
    """Write `count` records that differ from the one in `source` in method, ratio, seed and score."""
    result, measurements = (json.loads((source / name).read_text()) for name in ("result.json", "measurements.json"))
    history = (source / "history.jsonl").read_text()
    for number in range(count):
        method, ratio = METHODS[number % len(METHODS)], RATIOS[number // len(METHODS) % len(RATIOS)]
        seed = number // (len(METHODS) * len(RATIOS))
        name = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        folder = root / "f30k" / method / name
        folder.mkdir(parents=True)
        result["id"], result["spec"] = name, {**result["spec"], "method": method, "noise": ratio, "seed": seed}
        (folder / "result.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
        (folder / "measurements.json").write_text(json.dumps(measurements, indent=2, sort_keys=True) + "\n")
        (folder / "history.jsonl").write_text(history * 5)


def scan(root: Path) -> dict[str, float]:
    """Return the seconds of reading all that a report reads."""
    found: dict[str, float] = {}
    reads: dict[str, Callable[[Path], Any]] = {"runs": load_runs, "training curves": load_training_curves}
    for name, read in reads.items():
        with timed(found, name):
            read(root)
    return found


def print_trivial(trivial: dict[str, dict[str, float]], count: int) -> None:
    """Print what trivial runs took."""
    rows = [
        (
            f"{where}, {LAUNCHERS[where]} at a time",
            f"{facts['planning'] * 1e3:.2g} ms",
            f"{facts['seconds'] * 1e3:.3g} ms",
            f"{facts['own'] * 1e3:.3g} ms",
            f"{facts['files']:.4g}",
            f"{facts['bytes'] / 1024:.3g} KiB",
        )
        for where, facts in trivial.items()
    ]
    print_table(f"{count} trivial runs, per run", ("launcher", "planned", "took", "itself", "files", "on disk"), rows)


def print_scans(scans: list[dict[str, float]], records: int) -> None:
    """Print what reading records took."""
    medians = {key: statistics.median(found[key] for found in scans) for key in scans[0]}
    lines = sorted({key.rpartition(" ")[0] for key in medians})
    cells = [(line, f"{medians[f'{line} wall']:.2f} s", f"{medians[f'{line} cpu']:.2f} s") for line in lines]
    print_table(f"Scanning {records} records", ("what", "wall", "CPU"), cells)


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="What to measure.")
@click.option("--runs", "count", default=1000, show_default=True, help="Number of trivial runs for each launcher.")
@click.option("--records", default=10_000, show_default=True, help="Number of records to scan.")
@click.option("--repeats", default=3, show_default=True, help="Number of scans.")
@click.option("--board", "board_runs", default=60, show_default=True, help="Number of runs of the board.")
@click.option("--jobs", default=2, show_default=True, help="Runs of the board at a time.")
@click.option("--budget", default=0.2, show_default=True, help="Budget of each run of the board, in epochs.")
@click.option("--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder for records.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the numbers as JSON.")
def main(
    parts: tuple[str, ...],
    count: int,
    records: int,
    repeats: int,
    board_runs: int,
    jobs: int,
    budget: float,
    folder: Path | None,
    out: Path | None,
) -> None:
    """Measure what sweeps cost in addition to their runs; see the top of this file."""
    facts = {"command": sys.argv, "environment": environment.describe(torch.device("cpu"))}
    found: dict[str, Any] = json.loads(out.read_text()) if out is not None and out.exists() else {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        if "board" in parts:  # first: forks share what this process has in memory
            found["board"] = {**facts, **measure_board(board_runs, jobs, budget, Path(name) / "board")}
            click.echo(json.dumps({key: value for key, value in found["board"].items() if key not in facts}, indent=1))
        trivial: dict[str, dict[str, float]] = {}
        for where, at_a_time in LAUNCHERS.items() if "trivial" in parts else ():
            trivial[where] = run_trivial(where, at_a_time, count, Path(name) / where)
            click.echo(f"{where}: { {key: round(value, 5) for key, value in trivial[where].items()} }", err=True)
        if trivial:
            found |= {**facts, "runs": count, "trivial": trivial}
            print_trivial(trivial, count)
        if "scans" in parts:
            if not trivial:
                run_trivial("here", 1, 1, Path(name) / "here")
            source = next((Path(name) / "here").glob("*/*/*/result.json")).parent
            large, scans = Path(name) / "large", []
            make_records(source, large, records)
            for _ in range(repeats):
                scans.append(scan(large))
                click.echo(f"{ {key: round(value, 3) for key, value in scans[-1].items()} }", err=True)
            found |= {**facts, "records": records, "scans": scans}
            print_scans(scans, records)
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
