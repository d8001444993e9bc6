"""Find the `scenes` presets: the same number of trials for every method, judged only on dev.

Usage: python benchmarks/search.py [METHOD ...] [--rounds 1] [--jobs 2] [--runs DIR] [--out FILE.json]

The first trial of a method has its published settings, with about the learning rate that `scenes` needs: these are the
presets until the search has run. The others are spread evenly over the method's search space below (Latin hypercubes of
five). All trials share the noise, the backbone, the budget, and a seed that no leaderboard uses. Trials recorded in DIR
are not run again, and trials of other methods in FILE are kept. `search-scenes-1.json` is the log of version 1.
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
    """The conditions of all trials."""

    dataset: str = "scenes"
    protocol: str = "shuffle-images"
    noise: float = 0.4
    backbone: str = "vse-infinity"
    budget: float = 5.0
    seed: int = 100


CONDITION = Condition()
SCALE: Mapping[str, object] = {"lr": 1e-3, "meta_lr": 8.5e-5}
"""Settings that cannot be as published: published learning rates are for larger data and networks, and more updates."""

TRIALS_PER_ROUND = 5

LOG = Path(__file__).with_name("search.json")


@dataclass(frozen=True)
class Trial:
    """Settings of a method to try."""

    method: str
    number: int
    settings: Mapping[str, object]


class Dimension(Protocol):
    """The values that a setting can take."""

    def at(self, place: float) -> object:
        """Return the value at `place` in [0, 1)."""


@dataclass(frozen=True)
class Between:
    """Numbers between two bounds, spread evenly, or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, place: float) -> float:
        """Return the number at `place` in [0, 1), with two significant digits: more would claim too much precision."""
        even = self.low + (self.high - self.low) * place
        value = self.low * (self.high / self.low) ** place if self.log else even
        return float(f"{value:.2g}")


@dataclass(frozen=True)
class OneOf:
    """A few values, each equally often."""

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
"""The search space of each method: the learning rate, and the two or three settings on which such short training
depends. The most important one is when hardest negatives start to count, because they keep a new network from learning;
in `decl` that is `shrink`.

On version 1 of `scenes`, three methods got six new trials, in a space with the settings that they depend on, because no
trial in an earlier space exceeded chance (dev rSum 10 to 43):
* `decl` had `tau` instead of `shrink`. Training on clean pairs alone did not learn either.
* `bicro` had `noisy_after` instead of `easiest`. Its warm-up trains on the 30 % of a batch that are already ranked
  best, from which a new network learns next to nothing.
* `crcl` had its two augmentations instead of `warmup`, `decay_every` and `short`. After 0.2 epochs of warm-up, matching
  probabilities are still about 1/32, below `confident`, so y becomes 0 and only the complementary loss remains; at the
  end, 93 % or more of all pairs, clean or not, were disbelieved. Two trials ran in a second space, without `short` (dev
  rSum 14 and 14): a stage of 0.66 epochs, the published share here, hands over a y of about 1/32, from which the next
  stage cannot learn."""


def trials_of(name: str, rounds: int) -> list[Trial]:
    """Return the trials of a method: its published settings, then TRIALS_PER_ROUND per round, spread over its space."""
    published = {e.name: SCALE.get(e.name, e.default) for e in fields(load_method(name).Config)}
    space = SPACES[name]
    places: list[list[float]] = []
    for number in range(rounds):
        seed = derive_seed(CONDITION.seed, "search", name, *([number] if number else []))
        places += qmc.LatinHypercube(len(space), rng=seed).random(TRIALS_PER_ROUND).tolist()
    drawn = [{key: space[key].at(x) for key, x in zip(space, point, strict=True)} for point in places]
    return [Trial(name, n, {**published, **settings}) for n, settings in enumerate([{}, *drawn])]


def execute_trial(trial: Trial, runs: Path) -> dict[str, Any]:
    """Return the log entry of a trial. Runs it unless `runs` has its record."""
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
    """Return the trial with the best rSum on dev, the first one in a tie. Raises ValueError if all failed."""
    return max((trial for trial in trials if trial["dev_rsum"] is not None), key=lambda trial: float(trial["dev_rsum"]))


@click.command()
@click.argument("methods", nargs=-1, type=click.Choice(sorted(SPACES)))
@click.option(
    "--rounds",
    default=1,
    show_default=True,
    help=f"Rounds of {TRIALS_PER_ROUND} trials per method, after the first trial.",
)
@click.option("--jobs", default=2, show_default=True, help="Number of runs at a time.")
@click.option("--runs", default=Path("search"), show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=LOG, show_default=True, type=click.Path(path_type=Path))
def main(methods: Sequence[str], rounds: int, jobs: int, runs: Path, out: Path) -> None:
    """Run the search and print the best trial of each method."""
    names = methods or sorted(SPACES)
    # First trials first, so that every method has about the same number of trials at any moment.
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
