"""Measure whether `scenes` behaves like the field's data: what noise does to methods, and how stable scores are.

Usage: python benchmarks/scenes_behaviour.py [PART ...] [--seed 0,1,2] [--jobs 2] [--runs scenes_behaviour]

Parts are `captions` (how well captions identify pictures), `noise` (methods at ratios of mismatched pairs), `peak`
(plain training, evaluated often enough to see when it turns) and `rounding` (one spec under other orders of rounding).
Methods have their published settings at the scale of `scenes` (`published`), not those that the search of `search.py`
found since: plain training here is what papers call plain, whose hardest negatives count from the start. Runs are kept
in a folder and not repeated, so the script can be stopped at any time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from search import defaults
from torch import nn

from ncbench.data.dataset import Dataset, IntVector
from ncbench.data.fitting import fitting_pairs
from ncbench.data.registry import load_dataset
from ncbench.evaluation.retrieval import evaluate
from ncbench.method.settings import Override
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.runtime.device import choose_device
from ncbench.runtime.environment import describe
from ncbench.runtime.files import write_json
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import Grid, plan_sweep

LOG = Path(__file__).with_suffix(".json")
PARTS = ("captions", "noise", "peak", "rounding")
BATCH_SIZE, N_BATCHES = 128, 200

NOISE_CELLS: Sequence[tuple[float, Sequence[str]]] = (
    (0.4, ("triplet", "rce", "l2rm", "oracle")),
    (0.0, ("triplet", "rce", "l2rm")),
    (0.8, ("triplet", "rce", "l2rm", "oracle")),
    (0.4, ("infonce", "rcl", "decl", "ncr", "gsc", "crcl", "bicro", "mscn")),
    (0.8, ("infonce", "rcl", "decl", "ncr", "gsc", "crcl", "bicro", "mscn")),
    (0.2, ("triplet", "rce", "l2rm", "oracle")),
    (0.6, ("triplet", "rce", "l2rm", "oracle")),
)
"""Ratios and methods, the most important ones first."""

OFTEN = 20  # evaluations: plain training with mismatched pairs peaks within the first of five epochs

MOVED_BY = 1e-6
ROUNDINGS = ("1 thread", "2 threads", f"weights moved by {MOVED_BY:g}")
ROUNDING_METHODS = ("rce", "rcl", "l2rm", "oracle", "triplet")


@dataclass(frozen=True)
class Cell:
    """A run: a method at a ratio of noise, with a seed, in an order of rounding; evaluated once an epoch by default."""

    method: str
    ratio: float
    seed: int
    rounding: str = ROUNDINGS[0]
    evaluations: int | None = None

    def folder(self, runs: Path) -> Path:
        """Return where the record is."""
        return runs if self.rounding == ROUNDINGS[0] else runs / self.rounding.replace(" ", "-")


def published(method: str) -> list[Override]:
    """Return the settings of a method that differ from those of its preset: the published ones, at this scale."""
    settings = defaults(method)
    if method == "l2rm":
        settings["warmup"] = 0.4  # of a search on version 1; the published share is that of forty epochs
    return [Override(method, name, str(value)) for name, value in settings.items()]


def train(cell: Cell, runs: Path) -> dict[str, Any]:
    """Return the numbers of a run with the default budget. Trains it unless `runs` has its record."""
    grid = Grid(
        ["scenes"],
        ["shuffle-images"],
        [cell.ratio],
        [cell.method],
        [],
        [],
        [cell.seed],
        evaluations=cell.evaluations,
        overrides=published(cell.method),
    )
    (planned,) = plan_sweep(grid)
    store = Store(cell.folder(runs))
    if cell.rounding == ROUNDINGS[2]:
        _move_first_weights()
    outcome = execute(planned, store, choose_device("cpu"), lambda progress: None)
    if outcome.result is None:
        raise RuntimeError(f"{cell} failed; see {outcome.folder}/error.txt") from outcome.error
    record, result = Record(outcome.folder), outcome.result.to_dict()
    measurements = record.measurements
    detection = (result.get("beliefs") or {}).get("detection") or {}
    return {
        "id": planned.spec.id,
        "method": cell.method,
        "noise": cell.ratio,
        "seed": cell.seed,
        "rounding": cell.rounding,
        "evaluations": planned.spec.evaluations,
        "test_rsum": result["metrics"]["test"]["rsum"],
        "last_dev_rsum": round(record.history[-1].dev.rsum, 1),
        "dev_curve": [round(line.dev.rsum, 1) for line in record.history],
        "detection_auc": detection.get("auc"),
        "commit": measurements and measurements.environment.commit,
    }


def _move_first_weights() -> None:
    """Let every backbone start with weights that are moved by MOVED_BY of themselves, up or down at random."""
    from ncbench.backbones import registry

    build = registry.build_backbone

    def build_moved(*arguments: Any) -> Any:
        return moved(build(*arguments))

    for module in list(sys.modules.values()):
        if getattr(module, "build_backbone", None) is build:
            module.build_backbone = build_moved  # type: ignore[attr-defined]


def moved(network: nn.Module) -> nn.Module:
    """Return the network, each of whose weights is multiplied by 1, 1 + MOVED_BY or 1 - MOVED_BY."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 1 + MOVED_BY * torch.randint(-1, 2, weight.shape, generator=generator)
    return network


def in_process(cell: Cell, runs: Path) -> dict[str, Any]:
    """Return the numbers of a run, trained in a process of its own, whose threads can be chosen."""
    threads = "2" if cell.rounding == ROUNDINGS[1] else "1"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    command = [sys.executable, __file__, "--cell", json.dumps(vars(cell)), "--runs", str(runs)]
    finished = subprocess.run(
        command, env={**os.environ, **dict.fromkeys(names, threads)}, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise RuntimeError(f"{cell}: {finished.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def captions(dataset: Dataset) -> dict[str, float]:
    """Return how well captions identify the pictures of `scenes`.

    `rsum` is the score on test of ranking by closeness, as a perfect reader would. `ambiguous` is the share of training
    captions which another picture fits at least as well as their own, in random batches of BATCH_SIZE pairs.
    `without_errors` is the share of test captions without a wrong detail. `fit_others` test captions fit another test
    picture, in `other_fits` pairs, `true_fits` of which are of captions without errors.
    """
    pairs = fitting_pairs(dataset, "test")
    assert dataset.semantics is not None
    assert pairs is not None
    test, train_split = dataset.splits["test"], dataset.splits["train"]
    images = np.arange(len(test.images))
    rows = [
        dataset.semantics.closeness("test", np.arange(len(test.captions)), np.full(len(test.captions), image))
        for image in images
    ]
    sound = dataset.semantics.closeness("test", np.arange(len(test.captions)), test.true) == 1
    others = pairs.captions[pairs.images != test.true[pairs.captions]]
    rng = np.random.default_rng(0)
    lengths = [len(text.split()) for text in train_split.captions.texts]
    return {
        "rsum": evaluate(np.stack(rows).astype(np.float32), test.true).rsum,
        "ambiguous": float(np.mean([_ambiguous(dataset, rng) for _ in range(N_BATCHES)])),
        "words": float(np.mean(lengths)),
        "longest": float(max(lengths)),
        "vocabulary": float(len(dataset.vocabulary)),
        "without_errors": float(sound.mean()),
        "fit_others": float(len(np.unique(others))),
        "other_fits": float(len(others)),
        "true_fits": float(sound[others].sum()),
    }


def _ambiguous(dataset: Dataset, rng: np.random.Generator) -> float:
    assert dataset.semantics is not None
    true = dataset.splits["train"].true
    chosen: IntVector = rng.choice(len(true), BATCH_SIZE, replace=False)
    which, other = np.divmod(np.arange(BATCH_SIZE**2), BATCH_SIZE)
    values = dataset.semantics.closeness("train", chosen[which], true[chosen][other]).reshape(BATCH_SIZE, -1)
    foreign = true[chosen][None] != true[chosen][:, None]
    return float(((values >= values.diagonal()[:, None]) & foreign).any(axis=1).mean())


def cells_of(parts: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return the runs of the parts, the most important ones first."""
    cells: list[Cell] = []
    if "noise" in parts:
        for number in range(0, len(NOISE_CELLS), 3):
            for seed in seeds:
                for ratio, methods in NOISE_CELLS[number : number + 3]:
                    cells += [Cell(method, ratio, seed) for method in methods]
    if "peak" in parts:
        cells += [Cell("triplet", 0.4, seed, evaluations=OFTEN) for seed in seeds]
    if "rounding" in parts:
        cells += [Cell(method, 0.4, seeds[0], rounding) for method in ROUNDING_METHODS for rounding in ROUNDINGS]
    return list(dict.fromkeys(cells))


def as_line(numbers: dict[str, Any]) -> str:
    """Return a line about a run."""
    auc = numbers["detection_auc"]
    return (
        f"{numbers['method']} at {numbers['noise']:g}, seed {numbers['seed']}, {numbers['rounding']}: "
        f"test rSum {numbers['test_rsum']:.1f}, dev {numbers['dev_curve']}" + (f", AUC {auc:.3f}" if auc else "")
    )


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--seed", "seeds", default="0,1,2", show_default=True)
@click.option("--only", help="Train only these methods, separated by commas.")
@click.option("--jobs", default=2, show_default=True, help="Runs at a time, each on one thread.")
@click.option("--limit", type=int, help="Train this many runs at most; the others are read if they are recorded.")
@click.option("--runs", default=Path("scenes_behaviour"), show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=LOG, show_default=True, type=click.Path(path_type=Path))
@click.option("--cell", hidden=True, help="Train this run in this process, and print its numbers as JSON.")
def main(
    parts: Sequence[str],
    seeds: str,
    only: str | None,
    jobs: int,
    limit: int | None,
    runs: Path,
    out: Path,
    cell: str | None,
) -> None:
    """Run the measurements, print them, and write them to a file that keeps those of other parts."""
    if cell:
        click.echo(json.dumps(train(Cell(**json.loads(cell)), runs)))
        return
    parts = parts or PARTS
    log: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    dataset = load_dataset("scenes", None)
    if log.get("digest") != dataset.digest:
        log = {"digest": dataset.digest, "runs": []}
    log["environment"] = describe(choose_device("cpu"))
    if "captions" in parts:
        log["captions"] = captions(dataset)
        click.echo(f"captions: {log['captions']}")
    cells = cells_of(parts, [int(seed) for seed in seeds.split(",")])
    cells = [cell for cell in cells if only is None or cell.method in only.split(",")][:limit]
    with ThreadPoolExecutor(jobs) as pool:  # of threads that wait for processes
        for numbers in pool.map(partial(in_process, runs=runs), cells):
            click.echo(as_line(numbers))
            log["runs"] = [one for one in log["runs"] if _key(one) != _key(numbers)] + [numbers]
            write_json(out, log)
    write_json(out, log)


def _key(numbers: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(numbers[name] for name in ("method", "noise", "seed", "rounding", "evaluations"))


if __name__ == "__main__":
    main()
