"""The Method contract: what a training strategy gets, what it must do, and what it may tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from ncbench.errors import UserError
from ncbench.plugins import load_plugin
from ncbench.seeds import derive_rng

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ncbench.backbones.base import Backbone
    from ncbench.budget import WorkMeter
    from ncbench.data.dataset import IntVector
    from ncbench.data.training import TrainingView

GROUP = "ncbench.methods"


def setting(default: Any, meaning: str, source: str) -> Any:
    """Declare a hyper-parameter of a Config: its default, what it means (with its unit), where the default is from."""
    return field(default=default, metadata={"meaning": meaning, "source": source})


@dataclass(frozen=True)
class Task:
    """What a method gets: the training view, a device, the meter of its budget, and backbones on demand.

    `budget.progress` tells how far training is, in [0, 1]; schedules are fractions of it. Every backbone comes from
    `new_backbone()`: it is metered, belongs to the run's backbone family and sits on the device.
    """

    data: TrainingView
    device: torch.device
    budget: WorkMeter
    new_backbone: Callable[[], Backbone]
    seed: int

    def rng(self, use: str) -> np.random.Generator:
        """Return a generator of its own for one named use of randomness."""
        return derive_rng(self.seed, "method", use)


@dataclass(frozen=True)
class Rematches:
    """Pairs that a method believes in instead of the claimed ones: (n,) captions, images, weights in [0, 1]."""

    captions: IntVector
    images: IntVector
    weights: NDArray[np.float64]


class Method(ABC):
    """A training strategy around one or more backbones.

    Subclasses declare `name`, a frozen dataclass `Config` whose fields come from `setting`, and `presets` of settings
    per dataset. The harness constructs the method with a Config, calls `setup` once, then `train_epoch` with 0, 1, 2...
    until the budget is spent: a forward pass that does not fit raises BudgetSpent, which the method lets through.
    Between two updates the harness may evaluate; it leaves every network in the mode in which it found it.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Build networks and optimisers. The harness averages the similarities of all backbones that are built here."""

    @abstractmethod
    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Train for one epoch of the method's own making; yield scalars (at least `loss`) after every update."""

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Return P(clean) in [0, 1] of every training pair, (pairs,), or None where the method has no such belief."""
        return None

    def rematches(self) -> Rematches | None:
        """Return the pairs that the method believes in instead of claimed ones, or None."""
        return None


def load_method(name: str) -> type[Method]:
    """Return the method class that is registered as `name`. Raises UserError for an unknown or broken one."""
    loaded = load_plugin(GROUP, "method", name)
    if not (isinstance(loaded, type) and issubclass(loaded, Method)):
        raise UserError(f"method {name!r} is {loaded!r}, not a subclass of ncbench.Method.")
    if loaded.name != name:
        raise UserError(f"method {name!r} calls itself {loaded.name!r}; its name and its entry point must agree.")
    return loaded


def make_config(method: type[Method], settings: Mapping[str, object]) -> Any:
    """Return the Config of `method` with `settings`. Raises UserError for what the Config itself refuses."""
    try:
        return method.Config(**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"settings of {method.name}: {error}.") from error


def settings_of(method: type[Method], dataset: str) -> dict[str, object]:
    """Return the settings of `method` for `dataset`: defaults, overlaid by the preset if there is one."""
    defaults = {entry.name: entry.default for entry in fields(method.Config)}
    return {**defaults, **method.presets.get(dataset, {})}
