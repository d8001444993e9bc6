"""Measure whether `scenes` behaves like real data: not saturated, hurt by noise, memorised by hard negatives.

Usage: python benchmarks/scenes_behaviour.py [--budget 16] [--seed 0] [--out FILE.json]

Trains `triplet` with the same budget on clean pairs, under both noise protocols at 40 %, and on only the clean pairs of
a noisy training set. Prints test rSum and the dev curve of each.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from ncbench.budget import Budget
from ncbench.data.dataset import Captions, Dataset, IntVector, Split
from ncbench.method.settings import Override
from ncbench.noise.registry import draw_noise
from ncbench.records.record import Record
from ncbench.runtime.device import choose_device
from ncbench.runtime.environment import describe
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep
from ncbench.training.run import Run

RATIO = 0.4
# The warm-up is long enough to leave the plateau on which hardest negatives hold a new network.
SETTINGS = {"warmup": "0.25", "lr": "0.002", "margin": "0.2"}


def main_runs(budget: float, seed: int, evaluations: int) -> dict[str, PlannedRun]:
    """Return the runs to compare by name."""
    grid = Grid(
        datasets=["scenes"],
        protocols=["shuffle-images", "shuffle-captions"],
        ratios=[0.0, RATIO],
        methods=["triplet"],
        backbones=["sgr"],
        budgets=[Budget(budget)],
        seeds=[seed],
        evaluations=evaluations,
        overrides=[Override("triplet", key, value) for key, value in SETTINGS.items()],
    )
    clean, images, captions = plan_sweep(grid)
    named = {"clean": clean, "shuffle-images 0.4": images, "shuffle-captions 0.4": captions}
    return {**named, "only the clean pairs of shuffle-images 0.4": only_clean(images)}


def only_clean(run: PlannedRun) -> PlannedRun:
    """Return the run without its mismatched pairs: the best that leaving them out could achieve."""
    train = run.dataset.splits["train"]
    kept = np.flatnonzero(run.noise.clean(train.true))
    smaller = Split(train.images, some_captions(train.captions, kept), train.true[kept])
    dataset: Dataset = replace(run.dataset, splits={**run.dataset.splits, "train": smaller})
    # The budget remains that of an epoch over all pairs.
    noise = draw_noise("shuffle-images", 0.0, smaller.true, len(smaller.images), 0)
    budget = run.spec.budget.amount * len(train.captions) / len(kept)
    return replace(run, dataset=dataset, noise=noise, spec=replace(run.spec, budget=Budget(budget)))


def some_captions(captions: Captions, kept: IntVector) -> Captions:
    """Return a subset of `captions`."""
    tokens, lengths = captions.padded(kept)
    lists = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    return Captions([captions.texts[c] for c in kept], lists)


def measure(name: str, budget: float, seed: int, evaluations: int) -> dict[str, Any]:
    """Return test scores and dev curve of the run called `name`."""
    run = main_runs(budget, seed, evaluations)[name]
    with tempfile.TemporaryDirectory() as folder:
        device = choose_device("cpu")
        result = Run(
            run.spec, run.dataset, run.noise, run.method, Path(folder), device, lambda progress: None
        ).execute()
        curve = [round(line.dev.rsum, 1) for line in Record(Path(folder)).history]
    return {"test": result.to_dict()["metrics"]["test"], "dev_curve": curve}


@click.command()
@click.option("--budget", default=16.0, help="Baseline epochs per run.")
@click.option("--evaluations", default=16)
@click.option("--seed", default=0)
@click.option("--jobs", default=2, help="Runs at a time.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the numbers to this file, as JSON.")
def main(budget: float, evaluations: int, seed: int, jobs: int, out: Path | None) -> None:
    """Run the measurements and print them."""
    names = list(main_runs(budget, seed, evaluations))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        measured = pool.map(partial(measure, budget=budget, seed=seed, evaluations=evaluations), names)
        found = dict(zip(names, measured, strict=True))
    for name, numbers in found.items():
        click.echo(f"{name}: test rSum {numbers['test']['rsum']:.1f}, dev {numbers['dev_curve']}")
    if out is not None:
        out.write_text(json.dumps({"runs": found, "environment": describe(choose_device("cpu"))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
