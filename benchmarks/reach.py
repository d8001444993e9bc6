"""Prints how many captions that look mismatched have an image that fits within the reach of L2RM's queue, and find it.

Usage: python benchmarks/reach.py RUNS

RUNS is a folder of records of `l2rm` with their beliefs (submissions have none), on a dataset whose meaning is known.
Captions that fit the image that they claim need no rematch and are left out. A queue holds the images that as many
captions claim, which look mismatched and are drawn without replacement; so what is within its reach follows from the
hypergeometric distribution.

Prints, as markdown, means over seeds for each noise ratio and variant:

* own: share of captions whose own image is expected in the queue;
* any that fits: the same for any image that fits the caption; how many: their expected number, copies counted;
* correct: share of captions whose image of most mass fits;
* found: correct / any that fits;
* mass: share of the mass of one batch's transport plan that is on images that fit;
* rSum on test.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hypergeom

from ncbench import UserError, fitting_pairs, load_runs
from ncbench.data.dataset import IntVector
from ncbench.method.base import Plan
from ncbench.records.record import Record

COLUMNS = {
    "own": ("own", 2),
    "fitting": ("any that fits", 2),
    "count": ("how many", 1),
    "correct": ("correct", 2),
    "found": ("found", 2),
    "mass": ("mass", 2),
    "rsum": ("rSum", 1),
}
"""Headings and numbers of decimals."""


@dataclass(frozen=True)
class Reach:
    """What is within reach of the queues of one run, and what is found there; see the top of this file."""

    own: float
    fitting: float
    count: float
    correct: float

    @property
    def found(self) -> float:
        """The share of captions with a fitting image in reach whose image of most mass fits."""
        return self.correct / self.fitting if self.fitting else float("nan")


def reach(
    captions: IntVector, images: IntVector, claimed: IntVector, true: IntVector, fits: NDArray[np.bool_], queue: int
) -> Reach:
    """Return what is within reach of queues of so many images, and what is found there.

    `captions` (n,) were rematched to `images` (n,). `claimed` and `true` (pairs,) are the images of all captions, and
    `fits` (pairs, images) says which of them fit. Raises ValueError if each caption fits the image that it claims.
    """
    mismatched = ~fits[captions, claimed[captions]]
    if not mismatched.any():
        raise ValueError("expected captions that do not fit their image")
    copies = np.bincount(claimed[captions], minlength=fits.shape[1])  # of each image among all queues
    wrong = captions[mismatched]
    fitting = fits[wrong] @ copies
    others, drawn = len(captions) - 1, min(queue, len(captions)) - 1  # the image of the caption itself does not fit
    return Reach(
        own=float(hypergeom.sf(0, others, copies[true[wrong]], drawn).mean()),
        fitting=float(hypergeom.sf(0, others, fitting, drawn).mean()),
        count=float(fitting.mean()) * drawn / others,
        correct=float(fits[wrong, images[mismatched]].mean()),
    )


def mass_that_fits(plan: Plan, fits: NDArray[np.bool_]) -> float:
    """Return the share of the mass of a plan that is on images that fit their captions; NaN for an empty plan."""
    total = float(plan.mass.sum())
    return float((plan.mass * fits[np.ix_(plan.captions, plan.images)].T).sum()) / total if total else float("nan")


def reach_of_run(record: Record) -> dict[str, float] | None:
    """Return the numbers of a run, or None if it has no rematches. Raises UserError if its dataset has no meaning."""
    beliefs = record.beliefs
    if beliefs is None or beliefs.rematches is None or beliefs.plan is None:
        return None
    dataset = record.dataset(None)
    train, pairs = dataset.splits["train"], fitting_pairs(dataset, "train")
    if pairs is None:
        raise UserError(f"{record.folder}: {dataset.name} does not say which images fit a caption")
    fits = np.zeros((len(train.true), len(train.images)), bool)
    fits[pairs.captions, pairs.images] = True
    rematches, queue = beliefs.rematches, int(record.spec.settings["queue"])
    found = reach(rematches.captions, rematches.images, record.noise.claimed, train.true, fits, queue)
    return {**asdict(found), "found": found.found, "mass": mass_that_fits(beliefs.plan, fits)}


@click.command()
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
def main(runs: Path) -> None:
    """Print the table; see the top of this file."""
    rows = []
    for run in load_runs(runs).itertuples():
        found = reach_of_run(Record(Path(str(run.folder))))
        if found is not None:
            rows.append({"noise": run.noise, "variant": run.variant, "rsum": run.rsum, **found})
    if not rows:
        raise UserError(f"{runs} has no runs with rematches and a plan; records that come from submissions lost them")
    means = pd.DataFrame(rows).groupby(["noise", "variant"])
    click.echo(f"| noise | variant | {' | '.join(heading for heading, _ in COLUMNS.values())} | seeds |")
    click.echo("| ---: | --- |" + " ---: |" * (len(COLUMNS) + 1))
    for key, part in means:
        noise, variant = key
        cells = " | ".join(f"{part[name].mean():.{digits}f}" for name, (_, digits) in COLUMNS.items())
        click.echo(f"| {noise:g} | {variant} | {cells} | {len(part)} |")


if __name__ == "__main__":
    main()
