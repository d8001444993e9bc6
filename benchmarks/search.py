"""Finds the `scenes` presets: the same number of trials for every method, judged on dev alone.

Usage: python benchmarks/search.py [METHOD ...] [--rounds 1] [--jobs 2] [--runs DIR] [--out FILE.json]

The first trial of a method has its published settings, at the batch size and about the learning rate that `scenes`
needs; the others spread evenly over the method's space below (Latin hypercubes of five). All trials share one noise,
one seed that no leaderboard uses, backbone and budget. Trials that are recorded in DIR are not run again; trials that
FILE holds of other methods stay in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import click
from scipy.stats import qmc

from ncbench.budget import Budget
from ncbench.method.registry import load_method
from ncbench.method.settings import Override
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.runtime.device import choose_device
from ncbench.runtime.files import write_json
from ncbench.runtime.seeds import derive_seed
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import Grid, plan_sweep


@dataclass(frozen=True)
class Condition:
    """Under what all trials run."""

    dataset: str = "scenes"
    protocol: str = "shuffle-images"
    noise: float = 0.4
    backbone: str = "sgr"
    budget: float = 5.0
    seed: int = 100


CONDITION = Condition()
SCALE: Mapping[str, object] = {
    "batch_size": 32,
    "lr": 2e-3,
    "queue": 32,
    "warmup_batch": 32,
    "meta_batch": 32,
    "meta_lr": 1.7e-4,
}
"""What no method can have as published here: batches and learning rates are for larger data and networks."""

EACH = 5

LOG = Path(__file__).with_name("search.json")


@dataclass(frozen=True)
class Trial:
    """One setting of a method to be tried."""

    method: str
    number: int
    settings: Mapping[str, object]


class Dimension(Protocol):
    """What a setting may be."""

    def at(self, place: float) -> object:
        """Return the value at `place` in [0, 1)."""


@dataclass(frozen=True)
class Between:
    """Numbers between two bounds, evenly spread; or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, place: float) -> float:
        """Return the number at `place` in [0, 1), of two significant digits: more would claim too much."""
        even = self.low + (self.high - self.low) * place
        value = self.low * (self.high / self.low) ** place if self.log else even
        return float(f"{value:.2g}")


@dataclass(frozen=True)
class OneOf:
    """A few values, equally often."""

    values: Sequence[object]

    def at(self, place: float) -> object:
        """Return the value at `place` in [0, 1)."""
        return self.values[math.floor(place * len(self.values))]


RATE = Between(7e-4, 5e-3, log=True)
SHARE = Between(0.1, 0.9)
TEMPERATURE = Between(0.02, 0.15, log=True)

SPACES: Mapping[str, Mapping[str, Dimension]] = {
    "triplet": {"lr": RATE, "warmup": SHARE, "margin": Between(0.1, 0.4)},
    "oracle": {"lr": RATE, "warmup": SHARE, "margin": Between(0.1, 0.4)},
    "infonce": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "rce": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "rcl": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "decl": {"lr": RATE, "warmup": SHARE, "shrink": SHARE},
    "ncr": {"lr": RATE, "warmup": SHARE, "noisy_after": Between(0, 1)},
    "bicro": {"lr": RATE, "warmup": SHARE, "easiest": Between(0.3, 1)},
    "mscn": {"lr": RATE, "warmup": SHARE, "meta_lr": Between(3e-5, 1e-3, log=True)},
    "crcl": {
        "lr": RATE,
        "warmup": SHARE,
        "decay_every": SHARE,
        "short_stages": OneOf((0, 1)),
        "short": Between(0.2, 0.5),
    },
    "gsc": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "l2rm": {"lr": RATE, "warmup": SHARE, "reg": Between(0.01, 0.1, log=True)},
}
"""What is searched per method: the learning rate, and the two or three settings that training this short hangs on.
Above all when hardest negatives begin to count, which hold a fresh network where it is; in `decl` that is `shrink`.

Three methods were given their six trials anew, in a space that has what they hang on, because no trial in an earlier
one had left chance (dev rSum 10 to 43):
* `decl` had `tau` in place of `shrink`; training on clean pairs alone did not learn either.
* `bicro` had `noisy_after` in place of `easiest`: of the pairs of a batch, warm-up trains on the 30 % that are ranked
  best already, and a fresh network learns next to nothing from them.
* `crcl` had its two augmentations in place of `warmup`, `decay_every` and `short`: after 0.2 epochs of warm-up
  matching probabilities are still about 1/32, below `confident`, so y becomes 0 and only the complementary loss is
  left; at the end 93 % of all pairs, clean or not, and more were disbelieved. Of a second space, without `short`, two
  trials ran (dev rSum 14 and 14): a stage of 0.66 epochs, as the published share is here, hands over a y of about
  1/32, and the next one has nothing to learn from."""


def trials_of(name: str, rounds: int) -> list[Trial]:
    """Return the trials of a method: its published settings, then EACH per round that spread over its space."""
    published = {e.name: SCALE.get(e.name, e.default) for e in fields(load_method(name).Config)}
    space = SPACES[name]
    places: list[list[float]] = []
    for number in range(rounds):
        seed = derive_seed(CONDITION.seed, "search", name, *([number] if number else []))
        places += qmc.LatinHypercube(len(space), rng=seed).random(EACH).tolist()
    drawn = [{key: space[key].at(x) for key, x in zip(space, point, strict=True)} for point in places]
    return [Trial(name, n, {**published, **settings}) for n, settings in enumerate([{}, *drawn])]


def execute_trial(trial: Trial, runs: Path) -> dict[str, Any]:
    """Return the entry of a trial in the log, after running it unless `runs` holds its record."""
    grid = Grid(
        datasets=[CONDITION.dataset],
        protocols=[CONDITION.protocol],
        ratios=[CONDITION.noise],
        methods=[trial.method],
        backbones=[CONDITION.backbone],
        budgets=[Budget(CONDITION.budget)],
        seeds=[CONDITION.seed],
        overrides=[Override(trial.method, key, str(value)) for key, value in trial.settings.items()],
    )
    (planned,) = plan_sweep(grid)
    device = choose_device("cpu")
    outcome = execute(planned, Store(runs), device, lambda progress: None)
    entry = {
        "trial": trial.number,
        "id": planned.spec.id,
        "settings": planned.spec.settings,
        "failed": outcome.error is not None,
    }
    if outcome.result is None:
        return {**entry, "error": str(outcome.error), "dev_rsum": None}
    measurements, selected = Record(outcome.folder).measurements, outcome.result.selected
    commit = measurements and measurements.environment.commit
    return {**entry, "dev_rsum": selected.dev_rsum, "share": selected.share, "commit": commit}


def best(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the trial of the best rSum on dev; of equal ones the first. Raises ValueError if all failed."""
    return max((trial for trial in trials if trial["dev_rsum"] is not None), key=lambda trial: float(trial["dev_rsum"]))


@click.command()
@click.argument("methods", nargs=-1, type=click.Choice(sorted(SPACES)))
@click.option("--rounds", default=1, show_default=True, help=f"Of {EACH} trials per method, after a first trial.")
@click.option("--jobs", default=2, show_default=True, help="Runs at a time.")
@click.option("--runs", default=Path("search"), show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=LOG, show_default=True, type=click.Path(path_type=Path))
def main(methods: Sequence[str], rounds: int, jobs: int, runs: Path, out: Path) -> None:
    """Search, and print each method's best."""
    names = methods or sorted(SPACES)
    # First trials first: what there is at any moment is about as much for every method.
    queue = [trial for each in zip(*(trials_of(name, rounds) for name in names), strict=True) for trial in each]
    log = json.loads(out.read_text())["methods"] if out.is_file() else {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for trial, entry in zip(queue, pool.map(partial(execute_trial, runs=runs), queue), strict=True):
            found[trial.method].append(entry)
            click.echo(f"{trial.method}, trial {trial.number}: dev rSum {entry['dev_rsum']}")
    write_json(out, {"condition": asdict(CONDITION), "methods": {**log, **found}})
    for name in names:
        chosen = best(found[name])
        click.echo(f"{name}: {chosen['dev_rsum']:.1f} by trial {chosen['trial']}, {chosen['settings']}")


if __name__ == "__main__":
    main()
