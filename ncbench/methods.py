"""The Method contract: what a training strategy gets, what it must do, and what it may tell."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ncbench.errors import UserError, unknown_name
from ncbench.method_files import found_files, is_path, load_module, same_text
from ncbench.plugins import load_plugin, module_file, plugin_names
from ncbench.seeds import derive_rng

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ncbench.backbones.base import Ability, Backbone
    from ncbench.budget import Meter
    from ncbench.data.dataset import IntVector
    from ncbench.data.training import TrainingView
    from ncbench.state import State

GROUP = "ncbench.methods"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BOUNDS: Mapping[str, Callable[[Any, float], bool]] = {
    "above": operator.gt,
    "at least": operator.ge,
    "at most": operator.le,
}


def setting(
    default: Any,
    meaning: str,
    source: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare a hyper-parameter of Settings: its default, what it means (with its unit), where the default is from.

    Values that are not `above`, `at_least` or `at_most` a bound that is given are refused.
    """
    bounds = {"above": above, "at least": at_least, "at most": at_most}
    given = {words: bound for words, bound in bounds.items() if bound is not None}
    return field(default=default, metadata={"meaning": meaning, "source": source, **given})


@dataclass(frozen=True)
class Settings:
    """What a method's Config derives from: checks the bounds of its settings. Raises ValueError."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            for words, kept in BOUNDS.items():
                bound = entry.metadata.get(words)
                if bound is not None and not kept(value, bound):
                    raise ValueError(f"{entry.name} must be {words} {bound:g}, found {value}")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """What nearly all published methods share; the defaults are those for Flickr30K."""

    batch_size: int = setting(128, "pairs per update", "SGRAF", at_least=2)
    lr: float = setting(2e-4, "learning rate of Adam", "SGRAF", above=0)
    decay_every: float = setting(
        0.375, "share of the budget between tenfold cuts of lr", "L2RM: 15 of 40 epochs", above=0
    )
    clip: float = setting(2.0, "largest norm of a gradient", "VSE++", above=0)


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

        Raises TypeError, naming the attribute, for one whose state cannot be kept (see `ncbench.state`).
        """
        from ncbench.state import capture  # here, as it loads torch

        return {name: capture(value, f"{self.name}.{name}") for name, value in self._attributes().items()}

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` returned, after `setup`. Raises KeyError for a state of other attributes."""
        from ncbench.state import restore

        attributes = self._attributes()
        if set(state) != set(attributes):
            differing = ", ".join(sorted(set(state) ^ set(attributes)))
            raise KeyError(f"the state of {self.name} differs in {differing}")
        for name, value in attributes.items():
            setattr(self, name, restore(value, state[name]))

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("config", "task")}


def method_names() -> list[str]:
    """Return the sorted names of all methods, of installed packages and of files; loads none. Raises UserError."""
    return sorted({*plugin_names(GROUP), *(file.name for file in found_files())})


def check_method(name: str) -> None:
    """Raise UserError unless `name` is that of a method, or a path to a file; loads nothing."""
    if is_path(name):
        if not Path(name).expanduser().is_file():
            raise UserError(f"method file {name}: there is no such file; give the path of a Python file.")
    elif name not in method_names():
        raise unknown_name("method", name, method_names())


def load_method(name: str) -> type[Method]:
    """Return the method class that is registered as `name`, or that a file holds: `name` is its path, or it is found.

    Raises UserError for an unknown or broken one, for a file that does not hold one method, and for two of one name.
    """
    check_method(name)
    if is_path(name):
        return _in_file(Path(name))
    installed = name in plugin_names(GROUP)
    own = module_file(GROUP, name) if installed else None
    files = [f.path for f in found_files() if f.name == name and not (own and same_text(f.path, own))]
    if len(files) + installed > 1:
        places = " and ".join([*(["an installed package"] if installed else []), *map(str, files)])
        raise UserError(f"method {name!r} is there twice, in {places}; rename one, or name a file by its path.")
    if files:
        return _in_file(files[0], name)
    loaded = load_plugin(GROUP, "method", name)
    if not (isinstance(loaded, type) and issubclass(loaded, Method)):
        raise UserError(f"method {name!r} is {loaded!r}, not a subclass of ncbench.Method.")
    if loaded.name != name:
        raise UserError(f"method {name!r} calls itself {loaded.name!r}; its name and its entry point must agree.")
    return loaded


def _in_file(path: Path, name: str | None = None) -> type[Method]:
    """Return the one method that a file defines, or the one called `name`; its `source` is the digest of the file."""
    module, digest = load_module(path)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    named = {method.name: method for method in found if isinstance(getattr(method, "name", None), str)}
    chosen = list(named.values()) if name is None else [named[name]] if name in named else []
    if len(chosen) != 1:
        held = ", ".join(sorted(named)) or "none"
        raise UserError(f"method file {path}: must define one subclass of ncbench.Method with a name, found {held}.")
    (method,) = chosen
    if not NAME.fullmatch(method.name):
        raise UserError(f"method file {path}: {method.name!r} is no name; use letters, digits, '.', '_' and '-'.")
    method.source = digest
    return method


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
