"""The Method contract: what a training strategy receives, must do and may report."""

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
    from ncbench.budget import Allowance
    from ncbench.data.dataset import IntVector
    from ncbench.data.training_view import TrainingView
    from ncbench.runtime.state import State


class NewBackbone(Protocol):
    """Makes backbones."""

    def __call__(self, *, head: int = 0) -> Backbone:
        """Return a freshly initialised backbone, with a head of `head` hidden units if given (`needs_abilities`)."""
        ...


@dataclass(frozen=True)
class Task:
    """What a method receives: the training view, a device, its budget, and backbones on demand.

    `budget.progress` is the share of the budget that is spent, in [0, 1]; schedules are fractions of it. Create every
    backbone with `new_backbone()`: it is metered, of the run's backbone family and on the device. Before a pass of
    any other network, call `budget.charge` with its FLOPs. `truth`, (pairs,) bool, says which pairs are clean if the
    method `needs_truth`; otherwise it is None. `clean` holds the numbers of the `clean_pairs_needed`, ascending; None
    if the method needs none.
    """

    data: TrainingView
    device: torch.device
    budget: Allowance
    new_backbone: NewBackbone
    seed: int
    truth: NDArray[np.bool_] | None = None
    clean: IntVector | None = None

    def rng(self, use: str) -> np.random.Generator:
        """Return a separate generator for one named use of randomness."""
        return derive_rng(self.seed, "method", use)


@dataclass(frozen=True)
class Rematches:
    """Pairs that a method believes instead of the claimed ones: (n,) captions, images, weights in [0, 1]."""

    captions: IntVector
    images: IntVector
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """A transport plan: the mass (m, n), at least 0, that moves from (m,) images to (n,) captions, by number."""

    captions: IntVector
    images: IntVector
    mass: NDArray[np.float64]


class Method(ABC):
    """A training strategy around one or more backbones.

    Subclasses define `name`, a frozen dataclass `Config` whose fields are declared with `setting`, and `presets`:
    settings per dataset. For one network and one loss per batch, derive from `SingleNetwork` instead.

    The harness constructs the method with a Config and calls `setup` once. It then calls `begin_epoch` and
    `train_epoch` with 0, 1, 2... until the budget is spent: a forward pass that does not fit raises BudgetSpent, which
    the method must not catch. The harness may evaluate between two updates, and restores the mode of every network.

    Training can be interrupted and resumed after every update. The attributes set in `setup` and the batches created
    in `train_epoch` are saved; `train_epoch` is then called again, without `begin_epoch`, and its batches continue
    where they were. Whatever else an epoch needs must be an attribute.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    needs_truth: ClassVar[bool] = False
    """Whether the method sees which pairs are clean. It is then a reference, not a contestant."""

    published_epochs: ClassVar[Mapping[str, int]] = {}
    """Epochs of the method's own that its publication trains for, warm-up included, by dataset."""

    source: ClassVar[str] = ""
    """For a method loaded from a file: the first twelve digits of the SHA-256 of that file."""

    resumes_midway: ClassVar[bool] = True
    """Whether an epoch can be resumed in its middle. Set it to False if `train_epoch` keeps state in local variables;
    an interrupted run then resumes after its last complete epoch."""

    needs_abilities: ClassVar[frozenset[Ability]] = frozenset()
    """What backbones must be able to do beyond scoring pairs, see `ncbench.backbones.base.Ability`."""

    needs_words: ClassVar[bool] = False
    """Whether the method changes the words of captions, so that captions cannot be vectors."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Build networks and optimisers. The harness averages the similarities of all backbones that are built here."""

    def begin_epoch(self, epoch: int) -> None:  # noqa: B027 - most methods have nothing to do
        """Prepare an epoch, for example split the pairs. Not called again when the epoch is resumed in its middle.

        What is done here counts towards the budget, as part of the first update.
        """

    @abstractmethod
    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Train for one epoch, of whatever length; yield a dict of scalars (at least `loss`) after every update."""

    def clean_pairs_needed(self, pairs: int) -> int:
        """Return how many clean pairs, of `pairs` in all, the method must be given: see `Task.clean`.

        The number depends on the settings only. Reports show it.
        """
        return 0

    def pair_scores(self) -> NDArray[np.float64] | None:
        """Return P(clean) in [0, 1] of every training pair, (pairs,), or None if the method does not estimate it."""
        return None

    def soft_labels(self) -> NDArray[np.float64] | None:
        """Return how well every pair corresponds, (pairs,) in [0, 1], as training uses it, or None."""
        return None

    def rematches(self) -> Rematches | None:
        """Return the pairs that the method believes instead of claimed ones, or None."""
        return None

    def transport_plan(self) -> Plan | None:
        """Return the plan of one batch of training pairs, for inspection, or None if the method transports nothing.

        The choice of the batch must not depend on its plan.
        """
        return None

    def state_dict(self) -> State:
        """Return all that a bit-exact resume needs: the state of every attribute that `setup` has set.

        Raises TypeError, naming the attribute, if a state is not supported (see `ncbench.runtime.state`).
        """
        from ncbench.runtime.state import capture

        return {name: capture(value, f"{self.name}.{name}") for name, value in self._attributes().items()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned, after `setup`. Raises KeyError for a state of other attributes."""
        from ncbench.runtime.state import restore

        attributes = self._attributes()
        if set(state) != set(attributes):
            differing = ", ".join(sorted(set(state) ^ set(attributes)))
            raise KeyError(f"the state of {self.name} differs in {differing}")
        for name, value in attributes.items():
            setattr(self, name, restore(value, state[name]))

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("config", "task")}
