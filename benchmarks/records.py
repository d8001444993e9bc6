"""Measure what commands take that read a large folder of records: `report`, `runs` and `--help`.

Usage: python benchmarks/records.py [--records 10000] [--repeats 3] [--folder DIR] [--out FILE.json]

Trains four methods with `vse` on `scenes` at two noise ratios for a third of an epoch, and copies these eight records
under other seeds, with new ids, until there are RECORDS of them; each passes `ncbench verify`. Then commands run as a
user runs them, in processes of their own, with a cache of their own: with nothing remembered, again, and once more with
all files out of the page cache. Besides wall time, CPU time of all processes is reported, because other work
on the machine affects it less. Records in DIR are kept, and used again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path

import click
import torch

from ncbench.cli.display.output import print_table
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.runtime import environment

STATES = ("first", "again", "cold")
METHODS, RATIOS = "triplet,infonce,rce,l2rm", "0.2,0.4"
NCBENCH = (Path(sys.executable).with_name("ncbench"),)
COPIED = ("measurements.json", "history.jsonl", "ranks.npz", "retrieved.npz", "fitting.npz", "beliefs.npz")


def make_records(root: Path, records: int) -> None:
    """Train the first records in `root`, and copy them until there are `records`."""
    grid = ("--method", METHODS, "--noise", RATIOS, "--backbone", "vse", "--budget", "0.3", "--evaluations", "8")
    subprocess.run((*NCBENCH, "--quiet", "run", *grid, "--device", "cpu", "--out", root), check=True)
    store = Store(root)
    found = list(store.results())
    sources = [record for record in found if record.spec.seed == 0]
    have = len(found)
    for record, number in zip(cycle(sources), count(), strict=False):
        if have >= records:
            return
        have += copy_record(record, store, 1 + number // len(sources))


def copy_record(record: Record, store: Store, seed: int) -> bool:
    """Write the record again under another seed; return whether it is new."""
    spec = replace(record.spec, seed=seed)
    folder = store.folder(spec)
    if (folder / "result.json").exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if record.has(name):
            shutil.copyfile(record.folder / name, folder / name)
    write = {"spec.json": spec.to_dict(), "result.json": {**record.content("result.json"), "id": spec.id}}
    write["result.json"]["spec"] = spec.to_dict()
    for name, content in write.items():
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return True


def evict(root: Path) -> None:
    """Ask the system to drop the content of all files below `root` from its page cache; names stay cached."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(words: Sequence[object], cache: Path) -> dict[str, float]:
    """Return wall and CPU seconds, and the peak memory in MiB of the largest process, of a command in a new process."""
    before, since = os.times(), time.perf_counter()
    process = subprocess.Popen(
        (*NCBENCH, *map(str, words)), stdout=subprocess.DEVNULL, env={**os.environ, "NCBENCH_CACHE": str(cache)}
    )
    _, status, used = os.wait4(process.pid, 0)
    wall, after = time.perf_counter() - since, os.times()
    assert status == 0, f"{words} ended with {status}"
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": cpu, "peak": used.ru_maxrss / 1024}


@click.command()
@click.option("--records", default=10_000, show_default=True, help="Number of records.")
@click.option("--repeats", default=3, show_default=True, help="Number of times that every command runs.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for records, which is kept.")
@click.option("--only", multiple=True, help="Only these: help, runs, report, json. Can be repeated.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the numbers as JSON.")
def main(records: int, repeats: int, folder: Path | None, only: Sequence[str], out: Path | None) -> None:
    """Measure commands on many records; see the top of this file."""
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=folder and folder.parent) as name:
        root, cache = folder or Path(name) / "runs", Path(name) / "cache"
        make_records(root, records)
        commands: dict[str, Sequence[object]] = {
            "help": ("--help",),
            "runs": ("runs", "--runs", root),
            "json": ("runs", "--runs", root, "--json"),
            "report": ("report", "--runs", root, "--out", Path(name) / "pages"),
        }
        for what, words in commands.items():
            for _ in range(repeats if not only or what in only else 0):
                for state in STATES if what != "help" else STATES[1:2]:
                    if state == "first":
                        shutil.rmtree(cache, ignore_errors=True)
                    if state == "cold":
                        evict(root)
                        evict(cache)
                    line = {"command": what, "state": state, **measure(words, cache), "load": os.getloadavg()[0]}
                    click.echo(json.dumps(line), err=True)
                    found.append(line)
    headings = ("command", "state", "wall", "CPU", "peak memory", "load")
    rows = [
        (
            str(line["command"]),
            str(line["state"]),
            f"{line['wall']:.2f} s",
            f"{line['cpu']:.2f} s",
            f"{line['peak']:.0f} MiB",
            f"{line['load']:.1f}",
        )
        for line in found
    ]
    print_table(f"{records} records", headings, rows, numbers=headings[2:])
    if out is not None:
        facts = {"command": sys.argv, "environment": environment.describe(torch.device("cpu"))}
        out.write_text(json.dumps({**facts, "records": records, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
