"""Find settings for a dataset, the `scenes` presets first: as many trials for every method, judged only on dev.

Usage: python benchmarks/search.py [METHOD ...] [--trials 12] [--limit N] [--jobs 2] [--runs DIR] [--out FILE.json]
           [--dataset scenes] [--noise 0.4,0.8] [--budget 5]

The first trial of a method has its published settings, with about the learning rate that `scenes` needs. The others are
spread evenly over the method's search space below (a Latin hypercube). A trial is judged by its rSum on dev, averaged
over the ratios of noise. All trials share the noise, the backbone, the budget, and a seed that no leaderboard uses.

The highest ratio runs first. The other one is left out where it cannot make the trial the best of its method, even if
it came out MARGIN points above everything that was ever logged at that ratio; the log says so.

The log is written after every run, and runs that are in it are not repeated, so the search can be stopped and goes on
elsewhere. `search-scenes-1.json` is the log of version 1. `options_of` returns the best settings in a log as options
of `ncbench run`.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np
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
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep


@dataclass(frozen=True)
class Condition:
    """The conditions of all trials."""

    dataset: str = "scenes"
    protocol: str = "shuffle-images"
    noise: tuple[float, ...] = (0.4, 0.8)
    backbone: str = "vse-infinity"
    budget: float = 5.0
    seed: int = 100


CONDITION = Condition()
SCALE: Mapping[str, object] = {"lr": 1e-3, "meta_lr": 8.5e-5}
"""Settings that cannot be as published: published learning rates are for larger data and networks, and more updates."""

TRIALS = 12
MARGIN = 10.0  # points of rSum by which a run may exceed everything that is logged at its ratio

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


RATE = Between(4e-4, 4e-3, log=True)
SHARE = Between(0.05, 0.9)
TEMPERATURE = Between(0.02, 0.15, log=True)

SPACES: Mapping[str, Mapping[str, Dimension]] = {
    "triplet": {"lr": RATE, "warmup": SHARE, "margin": Between(0.1, 0.4)},
    "oracle": {"lr": RATE, "warmup": SHARE, "margin": Between(0.1, 0.4)},
    "infonce": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "rce": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "rcl": {"lr": RATE, "tau": TEMPERATURE, "decay_every": SHARE},
    "decl": {"lr": RATE, "warmup": SHARE, "shrink": SHARE, "tau": Between(0.05, 0.2, log=True)},
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
    "rince": {"lr": RATE, "tau": TEMPERATURE, "q": Between(0.02, 0.3)},
    "gce": {"lr": RATE, "tau": TEMPERATURE, "q": Between(0.2, 1)},
    "coteaching": {"lr": RATE, "forget": Between(0.1, 0.8), "gradual": SHARE},
}
"""The search space of each method: the learning rate, and the two or three settings on which such short training
depends. The most important one is when hardest negatives start to count, because they keep a new network from learning:
`warmup`, in `decl` also `shrink`.

What version 1 of `scenes` taught: `bicro` warms up on the 30 % of a batch that are already ranked best, from which a
new network learns next to nothing, so `easiest` is searched. After a short warm-up of `crcl`, matching probabilities
are still about 1 / batch size, below `confident`, so y becomes 0 and only the complementary loss remains; longer stages
and a longer `warmup` are in its space."""


def trials_of(name: str, count: int, condition: Condition = CONDITION) -> list[Trial]:
    """Return the trials of a method: its published settings, then others spread over its space, `count` in all."""
    published = defaults(name)
    space = SPACES[name]
    seed = derive_seed(condition.seed, "search", name)
    places = qmc.LatinHypercube(len(space), rng=seed).random(count - 1).tolist()
    drawn = [{key: space[key].at(x) for key, x in zip(space, place, strict=True)} for place in places]
    return [Trial(name, n, {**published, **settings}) for n, settings in enumerate([{}, *drawn])]


def plan(trial: Trial, ratio: float, condition: Condition = CONDITION) -> PlannedRun:
    """Return the run of a trial at a ratio of noise."""
    grid = Grid(
        datasets=[condition.dataset],
        protocols=[condition.protocol],
        ratios=[ratio],
        methods=[trial.method],
        backbones=[condition.backbone],
        budgets=[Budget(condition.budget)],
        seeds=[condition.seed],
        overrides=[Override(trial.method, key, str(value)) for key, value in trial.settings.items()],
    )
    (planned,) = plan_sweep(grid)
    return planned


def train(trial: Trial, ratio: float, runs: Path, condition: Condition = CONDITION) -> dict[str, Any]:
    """Return the log entry of the run of a trial at a ratio of noise. Trains it unless `runs` has its record."""
    planned = plan(trial, ratio, condition)
    outcome = execute(planned, Store(runs), choose_device("cpu"), lambda progress: None)
    entry: dict[str, Any] = {"id": planned.spec.id, "noise": planned.spec.noise}
    if outcome.result is None:
        return {**entry, "dev_rsum": None, "error": str(outcome.error)}
    measurements, selected = Record(outcome.folder).measurements, outcome.result.selected
    return {
        **entry,
        "dev_rsum": selected.dev_rsum,
        "share": selected.share,
        "seconds": measurements and round(measurements.seconds.total, 1),
        "commit": measurements and measurements.environment.commit,
    }


def mean_score(trial: Mapping[str, Any], condition: Condition = CONDITION) -> float | None:
    """Return the rSum on dev of a logged trial, averaged over the ratios; None if a run failed or is not made yet."""
    scores = [run["dev_rsum"] for run in trial["runs"]]
    if len(scores) < len(condition.noise) or None in scores:
        return None
    return float(np.mean(scores))


def best(trials: Sequence[Mapping[str, Any]], condition: Condition = CONDITION) -> Mapping[str, Any] | None:
    """Return the trial with the best mean score, the first one in a tie; None if no trial has one."""
    judged = [trial for trial in trials if mean_score(trial, condition) is not None]
    return max(judged, key=lambda trial: mean_score(trial, condition) or 0.0, default=None)


Log = Mapping[str, Sequence[Mapping[str, Any]]]


def defaults(name: str) -> dict[str, object]:
    """Return the published settings of a method, at the scale of `scenes`."""
    return {entry.name: SCALE.get(entry.name, entry.default) for entry in fields(load_method(name).Config)}


def is_trial(entry: Mapping[str, Any], trial: Trial) -> bool:
    """Return whether a logged trial has these settings; those that it lacks did not exist then, so it had defaults."""
    if entry["trial"] != trial.number:
        return False
    since = {key: value for key, value in defaults(trial.method).items() if key in trial.settings}
    return bool({**since, **entry["settings"]} == trial.settings)


def scores_of(log: Log, trial: Trial) -> dict[float, float | None]:
    """Return the logged scores of a trial with its present settings, by ratio of noise; None where a run failed."""
    for entry in log.get(trial.method, ()):
        if is_trial(entry, trial):
            return {run["noise"]: run["dev_rsum"] for run in entry["runs"]}
    return {}


def next_ratio(log: Log, trial: Trial, condition: Condition = CONDITION) -> float | None:
    """Return the ratio of noise at which a trial should run next, the highest first; None if it is judged."""
    scores = scores_of(log, trial)
    left = [ratio for ratio in sorted(condition.noise, reverse=True) if ratio not in scores]
    if not left or None in scores.values():
        return None
    leader = best(log.get(trial.method, ()), condition)
    if scores and leader is not None:
        most = sum(score or 0.0 for score in scores.values()) + sum(ceiling(log, ratio) for ratio in left)
        if most / len(condition.noise) < (mean_score(leader, condition) or 0.0):
            return None
    return left[0]


def ceiling(log: Log, ratio: float) -> float:
    """Return a score that no run at this ratio will exceed: MARGIN above all that are logged; infinity without any."""
    runs = [run for entries in log.values() for entry in entries for run in entry["runs"]]
    found = [run["dev_rsum"] for run in runs if run["noise"] == ratio and run["dev_rsum"] is not None]
    return max(found) + MARGIN if found else math.inf


def logged(log: dict[str, list[dict[str, Any]]], trial: Trial) -> dict[str, Any]:
    """Return the entry of a trial in the log, which is added if it is new."""
    entries = log.setdefault(trial.method, [])
    found = next((entry for entry in entries if entry["trial"] == trial.number), None)
    if found is None or not is_trial(found, trial):
        entries[:] = [entry for entry in entries if entry is not found]
        found = {"trial": trial.number, "settings": dict(trial.settings), "runs": []}
        entries.append(found)
        entries.sort(key=lambda entry: int(entry["trial"]))
    return found


def condition_of(content: Mapping[str, Any]) -> Condition:
    """Return the conditions of a log."""
    return Condition(**{**content["condition"], "noise": tuple(content["condition"]["noise"])})


def is_decided(trial: Mapping[str, Any], condition: Condition = CONDITION) -> bool:
    """Return whether a logged trial needs no more runs: it is judged, left out, or one of its runs failed."""
    failed = any(run["dev_rsum"] is None for run in trial["runs"])
    return failed or "left_out" in trial or mean_score(trial, condition) is not None


def options_of(path: Path, name: str) -> list[str]:
    """Return the options of `ncbench run` that give a method its best settings in a log.

    Raises ValueError unless all TRIALS are decided, and one is judged.
    """
    content = json.loads(path.read_text())
    condition, entries = condition_of(content), content["methods"].get(name, ())
    decided = sum(is_decided(entry, condition) for entry in entries)
    if decided < TRIALS:
        raise ValueError(f"{decided} of {TRIALS} trials of {name} are decided")
    chosen = best(entries, condition)
    if chosen is None:
        raise ValueError(f"no trial of {name} is judged")
    return [word for key, value in chosen["settings"].items() for word in ("--set", f"{name}.{key}={value}")]


@click.command()
@click.argument("methods", nargs=-1, type=click.Choice(sorted(SPACES)))
@click.option("--trials", default=TRIALS, show_default=True, help="Trials of each method, the published one first.")
@click.option("--limit", type=int, help="Make this many runs at most that are not in the log.")
@click.option("--jobs", default=2, show_default=True, help="Number of runs at a time.")
@click.option("--runs", default=Path("search"), show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=LOG, show_default=True, type=click.Path(path_type=Path))
@click.option("--dataset", default=CONDITION.dataset, show_default=True, help="As in `ncbench run`.")
@click.option("--noise", default="0.4,0.8", show_default=True, help="Ratios by whose mean dev rSum a trial is judged.")
@click.option("--budget", default=CONDITION.budget, show_default=True, help="Epochs of plain training.")
def main(
    methods: Sequence[str],
    trials: int,
    limit: int | None,
    jobs: int,
    runs: Path,
    out: Path,
    dataset: str,
    noise: str,
    budget: float,
) -> None:
    """Run the search and print the best trial of each method."""
    names = methods or sorted(SPACES)
    condition = Condition(dataset=dataset, noise=tuple(map(float, noise.split(","))), budget=budget)
    # First trials first, so that every method has about the same number of trials at any moment.
    each_of = (trials_of(name, trials, condition) for name in names)
    queue = [trial for each in zip(*each_of, strict=True) for trial in each]
    content = json.loads(out.read_text()) if out.is_file() else {"condition": asdict(condition), "methods": {}}
    if condition_of(content) != condition:
        raise click.UsageError(f"{out} was made under other conditions; move it away")
    log: dict[str, list[dict[str, Any]]] = content["methods"]
    todo, pending, begun = deque(queue), dict[Future[dict[str, Any]], Trial](), 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while todo or pending:
            while todo and len(pending) < jobs:
                trial = todo.popleft()
                ratio = next_ratio(log, trial, condition)
                if ratio is not None and (limit is None or begun < limit):
                    pending[pool.submit(train, trial, ratio, runs, condition)] = trial
                    begun += 1
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                trial, run = pending.pop(future), future.result()
                entry = logged(log, trial)
                entry["runs"] = sorted([*entry["runs"], run], key=lambda each: float(each["noise"]))
                todo.appendleft(trial)  # its next ratio
                write_json(out, {"condition": asdict(condition), "methods": log})
                click.echo(f"{trial.method}, trial {trial.number}, noise {run['noise']:g}: dev rSum {run['dev_rsum']}")
    for entries in log.values():
        for entry in entries:
            if len(entry["runs"]) < len(condition.noise):
                entry["left_out"] = "the other ratio could not have made it the best"
            else:
                entry.pop("left_out", None)
    if limit is None:
        write_json(out, {"condition": asdict(condition), "methods": log})
    for name in names:
        chosen = best(log.get(name, []), condition)
        if chosen is not None:
            click.echo(f"{name}: {mean_score(chosen, condition):.1f} by trial {chosen['trial']}, {chosen['settings']}")


if __name__ == "__main__":
    main()
