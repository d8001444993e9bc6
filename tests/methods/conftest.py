"""Tasks on the tiny dataset, without a run around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_methods import Toy

from ncbench import Task, TrainingView
from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.budget import WorkMeter
from ncbench.data.dataset import Dataset
from ncbench.noise.registry import draw_noise
from ncbench.training import loop
from ncbench.training.cost import baseline_epoch_work
from ncbench.training.loop import Workshop

CPU = torch.device("cpu")


@pytest.fixture
def noisy(tiny: Dataset) -> np.ndarray:
    """Return the training pairs of the tiny dataset, with 40 % of the captions shuffled."""
    return draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed


@pytest.fixture
def make_task(tiny: Dataset) -> Callable[..., Task]:
    """Return a function that makes a task with a budget in baseline epochs, on `claimed` (default: true) pairs."""

    def make(budget: float = 100.0, claimed: np.ndarray | None = None, backbone: str = "vse", seed: int = 0) -> Task:
        train = tiny.splits["train"]
        sizes = Sizes(6, 3, len(tiny.vocabulary), embed=16, similarity=8, word=8, dropout=0.0)
        torch.manual_seed(seed)
        epoch = baseline_epoch_work(build_backbone(backbone, sizes), train.captions, 8)
        meter = WorkMeter(round(budget * epoch))  # in place of the line to it, so that tests can read its counts
        workshop = Workshop(backbone, sizes, CPU, "float32", meter)
        view = TrainingView(train.images, train.captions, train.true if claimed is None else claimed, CPU)
        task = loop.make_task(Toy(Toy.Config()), view, workshop, seed)
        return replace(task, budget=meter, seed=seed)  # whatever the method

    return make
