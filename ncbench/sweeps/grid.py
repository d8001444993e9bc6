"""Planning of sweeps: a grid of conditions becomes a checked list of runs before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ncbench.backbones.outline import check_builds
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
from ncbench.noise.drawing import draw_noise
from ncbench.noise.ratio import NATURAL, Amount
from ncbench.records.spec import RunSpec
from ncbench.training.clean_pairs import clean_pairs
from ncbench.training.cost import one_thread

MAX_EVALUATIONS = 1000


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep, as given by the user.

    Empty `backbones` and `budgets` mean those set by the dataset. `evaluations`, the number of dev evaluations per run,
    defaults to one per epoch, or 10 if the budget is in FLOPs or seconds. Protocols are ignored for the ratio
    `natural`. `overrides` apply to all runs; each of `variants` repeats all runs with this one override added.
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
    """One run of a sweep, with all user input checked.

    `cell` is a grid with this run only, from which another process can plan the same run; None if the run was read from
    a record.
    """

    spec: RunSpec
    dataset: Dataset
    noise: Noise
    method: type[Method]
    cell: Grid | None = None


@one_thread()
def plan_sweep(grid: Grid) -> list[PlannedRun]:
    """Return the runs of a grid in execution order: table by table, with seeds in the outermost loop.

    A table has one dataset, noise, backbone and budget, and its methods run one after another. The first seed of all
    tables is complete before the second seed starts. A ratio of 0 is the same under all protocols and runs once, as
    protocol `clean`. Raises UserError if any run of the grid is invalid.
    """
    given_backbones = _backbones_as_given(grid.backbones)
    for name in given_backbones:
        check_precision(name, grid.precision)
    if grid.evaluations is not None and grid.evaluations < 1:
        raise UserError(f"evaluations must be at least 1, found {grid.evaluations}")
    names = _names_as_given(grid.methods)
    methods = {name: load_method(given) for name, given in names.items()}
    for override in [*grid.overrides, *grid.variants]:
        if override.target not in (*methods, BACKBONE):
            raise unknown_name(f"{override.option} target in this sweep", override.target, [*methods, BACKBONE])
    datasets = {name: load_dataset(name, grid.data_root) for name in grid.datasets}
    backbones = {name: list(given_backbones) or _default_backbone(grid, data) for name, data in datasets.items()}
    changes = [list(grid.overrides), *([*grid.overrides, variant] for variant in grid.variants)]
    budgets: list[Budget | Paper | None] = [*grid.budgets] or [None]
    tables = (
        (seed, dataset_name, noise, backbone, budget)
        for seed, dataset_name, noise in product(grid.seeds, grid.datasets, _noises(grid))
        for backbone, budget in product(backbones[dataset_name], budgets)
    )
    runs: dict[str, PlannedRun] = {}
    built: list[tuple[str, str, dict[str, float]]] = []
    noises: dict[tuple[int, str, str, Amount], Noise] = {}  # shared by all methods and backbones
    cells = ((*table, name, overrides) for table in tables for name, overrides in product(methods, changes))
    for seed, dataset_name, (protocol, ratio), backbone, requested, method_name, overrides in cells:
        dataset, method = datasets[dataset_name], methods[method_name]
        if method.needs_truth and not dataset.truth_known:
            raise UserError(
                f"method {method_name!r} needs to know which pairs are clean, but {dataset_name} has no ground truth."
            )
        check_abilities(backbone, method.needs_abilities, method_name)
        check_captions(backbone, dataset)
        if method.needs_words and dataset.vector_dim:
            raise UserError(
                f"method {method_name!r} changes the words of captions, but {dataset.name} has caption vectors."
            )
        settings = apply_overrides(method, settings_of(method, dataset.presets), overrides)
        config = make_config(method, settings)
        preset = backbone_class(backbone).PRESETS.get(dataset.presets, {})
        sizes = apply_sizes({**dataset.scale, **preset}, overrides)
        if (dataset_name, backbone, sizes) not in built:
            check_builds(backbone, dataset, sizes)
            built.append((dataset_name, backbone, sizes))
        key = (seed, dataset_name, protocol, ratio)
        if key not in noises:
            noises[key] = draw_noise(dataset, ratio, protocol=protocol, seed=seed)
        noise = noises[key]
        true = dataset.splits["train"].true
        needed = method(config).clean_pairs_needed(len(true))
        if needed:
            clean_pairs(method_name, needed, noise.clean(true) if dataset.truth_known else None)
        if requested is None:
            budget = Budget(dataset.budget)
        else:
            budget = _published_budget(method, dataset.name) if isinstance(requested, Paper) else requested
        spec = RunSpec.of(
            dataset,
            noise,
            method,
            settings,
            backbone=backbone,
            budget=budget,
            evaluations=grid.evaluations or _default_evaluations(budget),
            seed=seed,
            sizes=sizes,
            precision=grid.precision,
            backbone_source=backbone_class(backbone).source,
        )
        cell = replace(
            grid,
            datasets=[dataset_name],
            protocols=[protocol],
            ratios=[ratio],
            methods=[names[method_name]],
            backbones=[given_backbones.get(backbone, backbone)],
            budgets=[budget],
            seeds=[seed],
            overrides=[override for override in overrides if override.target in (method_name, BACKBONE)],
            variants=[],
        )
        runs.setdefault(spec.id, PlannedRun(spec, dataset, noise, method, cell))
    return list(runs.values())


def _backbones_as_given(given: Sequence[str]) -> dict[str, str]:
    """Return the name or path that each backbone was given as, by full name.

    Raises UserError if two backbones have the same name.
    """
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    for text in given:
        name = resolve(text)
        source = backbone_class(name).source
        if sources.setdefault(name, source) != source:
            raise UserError(f"--backbone: two backbones are named {name!r}; rename one")
        found.setdefault(name, text)
    return found


def _default_backbone(grid: Grid, dataset: Dataset) -> list[str]:
    """Return the backbone of a dataset. Raises UserError if it lacks the precision of the grid."""
    name = resolve(dataset.backbone)
    check_precision(name, grid.precision)
    return [name]


def _names_as_given(given: Sequence[str]) -> dict[str, str]:
    """Return the name or path that each method was given as, by method name.

    Raises UserError if two methods have the same name.
    """
    found: dict[str, str] = {}
    classes: dict[str, type[Method]] = {}
    for text in given:
        method = load_method(text)
        if classes.setdefault(method.name, method) is not method:
            raise UserError(f"--method: two methods are named {method.name!r}; rename one")
        found.setdefault(method.name, text)
    return found


def _published_budget(method: type[Method], dataset: str) -> Budget:
    """Return the budget that `method` was published with. Raises UserError if it is unknown for this dataset."""
    epochs = method.published_epochs.get(dataset)
    if epochs is None:
        known = f" (for {', '.join(method.published_epochs)})" if method.published_epochs else ""
        raise UserError(
            f"--budget paper: no published schedule is known for {method.name} on {dataset}{known}. "
            "Use a number, for example 40own-epochs."
        )
    return Budget(epochs, "own-epochs")


def _default_evaluations(budget: Budget) -> int:
    return min(max(1, round(budget.amount)), MAX_EVALUATIONS) if "epochs" in budget.unit else 10


def _noises(grid: Grid) -> list[tuple[str, Amount]]:
    """Return all pairs of protocol and ratio, ordered by ratio; natural noise gives one pair for all protocols."""
    return [
        (protocol, ratio)
        for ratio in grid.ratios
        for protocol in (grid.protocols if ratio != NATURAL else grid.protocols[:1])
    ]
