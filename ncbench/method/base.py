"""The Method contract: what a training strategy gets, what it must do, and what it may tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ncbench.runtime.seeds import derive_rng

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ncbench.backbones.base import Ability, Backbone
    from ncbench.budget import Meter
    from ncbench.data.dataset import IntVector
    from ncbench.data.training_view import TrainingView
    from ncbench.runtime.state import State


class NewBackbone(Protocol):
    """Makes a backbone, if asked with a head of so many hidden units (see `needs_abilities`)."""

    def __call__(self, *, head: int = 0) -> Backbone:
        """Return a freshly initialised backbone."""
        ...


@dataclass(frozen=True)
class Task:
    """What a method gets: the training view, a device, the meter of its budget, and backbones on demand.

    `budget.progress` tells how far training is, in [0, 1]; schedules are fractions of it. Every backbone comes from
    `new_backbone()`: it is metered, belongs to the run's backbone family and sits on the device. For passes of another
    network the method calls `budget.charge` with their FLOPs before it makes them. `truth` says which pairs are clean,
    (pairs,) bool, to a method that `needs_truth`; to others it is None. `clean` holds the numbers of as many clean
    pairs as the method needs to be told, ascending; None where it needs none.
    """

    data: TrainingView
    device: torch.device
    budget: Meter
    new_backbone: NewBackbone
    seed: int
    truth: NDArray[np.bool_] | None = None
    clean: IntVector | None = None

    def rng(self, use: str) -> np.random.Generator:
        """Return a generator of its own for one named use of randomness."""
        return derive_rng(self.seed, "method", use)


@dataclass(frozen=True)
class Rematches:
    """Pairs that a method believes in instead of the claimed ones: (n,) captions, images, weights in [0, 1]."""

    captions: IntVector
    images: IntVector
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """A transport plan: the mass (m, n), at least 0, that goes from (m,) images to (n,) captions, by their numbers."""

    captions: IntVector
    images: IntVector
    mass: NDArray[np.float64]


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
    needs_truth: ClassVar[bool] = False
    """Whether the method is told which pairs are clean. It is then a reference, no contestant."""

    published_epochs: ClassVar[Mapping[str, int]] = {}
    """For how many epochs of its own the method was trained where it was published, by dataset, warm-up included."""

    source: ClassVar[str] = ""
    """Of a method in a file of its own: twelve digits of the SHA-256 of the file, set where it is loaded."""

    resumes_midway: ClassVar[bool] = False
    """Whether `train_epoch`, called again in the state of any of its yields, goes on from there (see
    `TrainingView.midway`). Else a run that was interrupted goes on from the last epoch that it had finished."""

    needs_abilities: ClassVar[frozenset[Ability]] = frozenset()
    """What backbones must be able to do for this method beyond scoring pairs, see `ncbench.backbones.base.Ability`."""

    needs_words: ClassVar[bool] = False
    """Whether the method changes the words of captions, so that captions cannot be vectors."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Build networks and optimisers. The harness averages the similarities of all backbones that are built here."""

    @abstractmethod
    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Train for one epoch of the method's own making; yield scalars (at least `loss`) after every update."""

    def clean_pairs_needed(self, pairs: int) -> int:
        """Return how many of so many training pairs the method must be told that they are clean: see `Task.clean`.

        They follow from the settings alone. Reports say how many a method was told.
        """
        return 0

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Return P(clean) in [0, 1] of every training pair, (pairs,), or None where the method has no such belief."""
        return None

    def soft_labels(self) -> NDArray[np.float64] | None:
        """Return how well every training pair corresponds, (pairs,) in [0, 1], as training goes by it, or None."""
        return None

    def rematches(self) -> Rematches | None:
        """Return the pairs that the method believes in instead of claimed ones, or None."""
        return None

    def transport_plan(self) -> Plan | None:
        """Return the plan of one batch of training pairs, to be looked at, or None where the method transports nothing.

        Which batch it is must not depend on how its plan looks.
        """
        return None

    def state_dict(self) -> State:
        """Return all that a bit-exact continuation needs: the state of every attribute that `setup` has set.

        Raises TypeError, naming the attribute, for one whose state cannot be kept (see `ncbench.runtime.state`).
        """
        from ncbench.runtime.state import capture

        return {name: capture(value, f"{self.name}.{name}") for name, value in self._attributes().items()}

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` returned, after `setup`. Raises KeyError for a state of other attributes."""
        from ncbench.runtime.state import restore

        attributes = self._attributes()
        if set(state) != set(attributes):
            differing = ", ".join(sorted(set(state) ^ set(attributes)))
            raise KeyError(f"the state of {self.name} differs in {differing}")
        for name, value in attributes.items():
            setattr(self, name, restore(value, state[name]))

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("config", "task")}
