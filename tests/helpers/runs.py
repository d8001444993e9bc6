"""Runs on small datasets, ready to be executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from toy_methods import FAST

from ncbench import Method
from ncbench.budget import Budget, Unit
from ncbench.data.dataset import Dataset
from ncbench.method.registry import settings_of
from ncbench.noise.registry import draw_noise
from ncbench.records.progress import Progress
from ncbench.records.spec import RunSpec
from ncbench.training.run import DEFAULT_CADENCE, Cadence, Run


def prepare_run(
    dataset: Dataset,
    folder: Path,
    kind: type[Method],
    backbone: str = "vse",
    *,
    ratio: float = 0.4,
    budget: float = 2.0,
    budget_unit: Unit = "epochs",
    evaluations: int = 3,
    seed: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
    settings: dict[str, object] | None = None,
    cadence: Cadence = DEFAULT_CADENCE,
) -> Run:
    """Return a run of a method under caption noise, with settings under which it trains fast."""
    train = dataset.splits["train"]
    noise = draw_noise("shuffle-captions", ratio, train, seed)
    spec = RunSpec.of(
        dataset,
        noise,
        kind,
        {**settings_of(kind, dataset.name), **FAST.get(kind.name, {}), **(settings or {})},
        backbone=backbone,
        budget=Budget(budget, budget_unit),
        evaluations=evaluations,
        seed=seed,
    )
    return Run(spec, dataset, noise, kind, folder, torch.device("cpu"), on_progress, cadence)
