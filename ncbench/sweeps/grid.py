"""Grids of runs, planned whole before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import backbone_class, check_abilities, check_captions, check_precision, resolve
from ncbench.budget import Budget, Paper
from ncbench.data.dataset import Dataset
from ncbench.data.registry import load_dataset
from ncbench.errors import UserError, unknown_name
from ncbench.method.base import Method
from ncbench.method.registry import load_method, make_config, settings_of
from ncbench.method.settings import BACKBONE, Override, apply_overrides, apply_sizes
from ncbench.noise.base import Noise
from ncbench.noise.ratio import CLEAN, NATURAL, Amount
from ncbench.noise.registry import draw_noise
from ncbench.records.spec import RunSpec
from ncbench.runtime.seeds import derive_seed
from ncbench.training.clean_pairs import clean_pairs

MOST_EVALUATIONS = 1000


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep, as the user gave them.

    `budgets`: none means the dataset's own. `evaluations` of dev per run default to one per epoch of the budget, and to
    ten where it is in FLOPs or seconds. Protocols say nothing where a ratio is `natural`. `overrides` hold for all
    runs; each of `variants` makes every run once more, with it alone added.
    """

    datasets: Sequence[str]
    protocols: Sequence[str]
    ratios: Sequence[Amount]
    methods: Sequence[str]
    backbones: Sequence[str]
    budgets: Sequence[Budget | Paper]
    seeds: Sequence[int]
    evaluations: int | None = None
    overrides: Sequence[Override] = ()
    variants: Sequence[Override] = ()
    data_root: Path | None = None
    precision: Precision = "float32"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, checked and ready: nothing about it can turn out to be bad input later.

    `cell` is the grid that holds this run alone, from which another process plans the same run; None for one that was
    read from a record.
    """

    spec: RunSpec
    dataset: Dataset
    noise: Noise
    method: type[Method]
    cell: Grid | None = None


def plan_sweep(grid: Grid) -> list[PlannedRun]:
    """Return the runs of a grid in the order in which they are to be executed: table by table, seeds outermost.

    A table holds one dataset, noise, backbone and budget; its methods come one after another, so that the first table
    is complete before the second begins, and the first seed of all tables before the second.
    A ratio of 0 is the same under all protocols that draw noise, and is run once, as protocol `clean`.
    Raises UserError for anything about the grid that cannot run.
    """
    backbones = {name: backbone_class(name) for name in map(resolve, grid.backbones)}
    for name in backbones:
        check_precision(name, grid.precision)
    if grid.evaluations is not None and grid.evaluations < 1:
        raise UserError(f"dev must be evaluated at least once, found {grid.evaluations} evaluations.")
    names = _named(grid.methods)
    methods = {name: load_method(given) for name, given in names.items()}
    for override in [*grid.overrides, *grid.variants]:
        if override.target not in (*methods, BACKBONE):
            raise unknown_name(f"target of {override.option} in this sweep", override.target, [*methods, BACKBONE])
    datasets = {name: load_dataset(name, grid.data_root) for name in grid.datasets}
    changes = [list(grid.overrides), *([*grid.overrides, variant] for variant in grid.variants)]
    asked_budgets: list[Budget | Paper | None] = [*grid.budgets] or [None]
    tables = product(grid.seeds, grid.datasets, _noises(grid), backbones, asked_budgets)
    runs: dict[str, PlannedRun] = {}
    drawn: dict[tuple[int, str, str, Amount], Noise] = {}  # shared by all methods and backbones
    cells = ((*table, name, overrides) for table in tables for name, overrides in product(methods, changes))
    for seed, dataset_name, (protocol, ratio), backbone, asked, method_name, overrides in cells:
        dataset, method = datasets[dataset_name], methods[method_name]
        if method.needs_truth and not dataset.truth_known:
            raise UserError(f"{method_name} must be told which pairs are clean, and of {dataset_name} nobody knows.")
        check_abilities(backbone, method.needs_abilities, method_name)
        check_captions(backbone, dataset)
        if method.needs_words and dataset.vector_dim:
            raise UserError(f"{method_name} changes the words of captions, and {dataset.name} has vectors of them.")
        settings = apply_overrides(method, settings_of(method, dataset.presets), overrides)
        config = make_config(method, settings)
        preset = backbones[backbone].PRESETS.get(dataset.presets, {})
        sizes = apply_sizes({**dataset.scale, **preset}, overrides)
        key = (seed, dataset_name, protocol, ratio)
        if key not in drawn:
            drawn[key] = _noise_of(dataset, protocol, ratio, seed)
        noise = drawn[key]
        true = dataset.splits["train"].true
        needed = method(config).clean_pairs_needed(len(true))
        if needed:
            clean_pairs(method_name, needed, noise.clean(true) if dataset.truth_known else None)
        if asked is None:
            budget = Budget(dataset.budget)
        else:
            budget = _published(method, dataset.name) if isinstance(asked, Paper) else asked
        spec = RunSpec.of(
            dataset,
            noise,
            method,
            settings,
            backbone=backbone,
            budget=budget,
            evaluations=grid.evaluations or _usual_evaluations(budget),
            seed=seed,
            sizes=sizes,
            precision=grid.precision,
        )
        cell = replace(
            grid,
            datasets=[dataset_name],
            protocols=[protocol],
            ratios=[ratio],
            methods=[names[method_name]],
            backbones=[backbone],
            budgets=[budget],
            seeds=[seed],
            overrides=[override for override in overrides if override.target in (method_name, BACKBONE)],
            variants=[],
        )
        runs.setdefault(spec.id, PlannedRun(spec, dataset, noise, method, cell))
    return list(runs.values())


def _named(given: Sequence[str]) -> dict[str, str]:
    """Return per method what it was given as, a name or a file, by its own name. Raises UserError for two of one."""
    found: dict[str, str] = {}
    classes: dict[str, type[Method]] = {}
    for text in given:
        method = load_method(text)
        if classes.setdefault(method.name, method) is not method:
            raise UserError(f"--method names two methods that call themselves {method.name!r}; rename one.")
        found.setdefault(method.name, text)
    return found


def _published(method: type[Method], dataset: str) -> Budget:
    """Return the budget that `method` was published with. Raises UserError where it was not, or ncbench knows none."""
    epochs = method.published_epochs.get(dataset)
    if epochs is None:
        known = f" (for {', '.join(method.published_epochs)})" if method.published_epochs else ""
        raise UserError(
            f"--budget paper: no published schedule of {method.name} for {dataset} is known{known}; "
            "give a number, for example 40own-epochs."
        )
    return Budget(epochs, "own-epochs")


def _usual_evaluations(budget: Budget) -> int:
    return min(max(1, round(budget.amount)), MOST_EVALUATIONS) if "epochs" in budget.unit else 10


def _noises(grid: Grid) -> list[tuple[str, Amount]]:
    """Return the (protocol, ratio) cells by ratio; natural noise is one cell, whatever the protocols."""
    return [
        (protocol, ratio)
        for ratio in grid.ratios
        for protocol in (grid.protocols if ratio != NATURAL else grid.protocols[:1])
    ]


def _noise_of(dataset: Dataset, protocol: str, amount: Amount, seed: int) -> Noise:
    """Return the noise of a run: `clean` at ratio 0, `natural` where the truth is unknown, else that of `protocol`.

    Raises UserError as `draw_noise`, and unless noise is natural exactly where the truth is unknown.
    """
    if amount == NATURAL:
        if dataset.truth_known:
            raise UserError(f"--noise natural is for pairs mismatched by nature; those of {dataset.name} are right.")
        return draw(dataset, NATURAL, 0.0, seed)
    if not dataset.truth_known:
        raise UserError(f"{dataset.name} is mismatched by nature: --noise must be natural there, found {amount:g}.")
    noise = draw(dataset, protocol, amount, seed)  # at ratio 0 too: an index file may disagree
    return noise if amount else draw(dataset, CLEAN, 0.0, seed)


def draw(dataset: Dataset, protocol: str, ratio: float, seed: int) -> Noise:
    """Return the noise of a run with `seed` on the training split. Raises UserError as `draw_noise`."""
    return draw_noise(protocol, ratio, dataset.splits["train"], derive_seed(seed, "noise"))
