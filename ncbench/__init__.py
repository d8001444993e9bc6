"""A benchmark suite for noisy correspondence.

The names below are all that a method, a dataset or a noise protocol needs, and `run`, `load_runs` and `evaluate` for
scripts and notebooks; they are loaded on first use, so that importing ncbench loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncbench import evaluation, losses, mixture, transport
    from ncbench.api import run
    from ncbench.data.dataset import Captions, Dataset, ImageFeatures, Split
    from ncbench.data.splices import Splices
    from ncbench.data.training import Batch, TrainingView
    from ncbench.data.vocabulary import Vocabulary
    from ncbench.errors import UserError
    from ncbench.evaluation import evaluate
    from ncbench.methods import Method, Plan, Rematches, Settings, Task, TrainingSettings, setting
    from ncbench.noise import Drawn, NoiseProtocol, NoiseRequest
    from ncbench.optimiser import Optimiser
    from ncbench.report.frame import load_runs

__version__ = "0.1.0"

_MODULES = ("evaluation", "losses", "mixture", "transport")
_HOMES = {
    "Batch": "ncbench.data.training",
    "Captions": "ncbench.data.dataset",
    "Dataset": "ncbench.data.dataset",
    "Drawn": "ncbench.noise",
    "ImageFeatures": "ncbench.data.dataset",
    "Method": "ncbench.methods",
    "NoiseProtocol": "ncbench.noise",
    "NoiseRequest": "ncbench.noise",
    "Optimiser": "ncbench.optimiser",
    "Plan": "ncbench.methods",
    "Rematches": "ncbench.methods",
    "Settings": "ncbench.methods",
    "Splices": "ncbench.data.splices",
    "Split": "ncbench.data.dataset",
    "Task": "ncbench.methods",
    "TrainingSettings": "ncbench.methods",
    "TrainingView": "ncbench.data.training",
    "UserError": "ncbench.errors",
    "evaluate": "ncbench.evaluation",
    "Vocabulary": "ncbench.data.vocabulary",
    "load_runs": "ncbench.report.frame",
    "run": "ncbench.api",
    "setting": "ncbench.methods",
}

__all__ = [
    "Batch",
    "Captions",
    "Dataset",
    "Drawn",
    "ImageFeatures",
    "Method",
    "NoiseProtocol",
    "NoiseRequest",
    "Optimiser",
    "Plan",
    "Rematches",
    "Settings",
    "Splices",
    "Split",
    "Task",
    "TrainingSettings",
    "TrainingView",
    "UserError",
    "Vocabulary",
    "evaluate",
    "evaluation",
    "load_runs",
    "losses",
    "mixture",
    "run",
    "setting",
    "transport",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"ncbench.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ncbench' has no attribute {name!r}")
