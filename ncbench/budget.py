"""What a run may spend on training, and the meters that count it.

Work is counted in floating-point operations by the backbones' cost formulas: the same on every machine. The unit that
users give is the *baseline epoch*: one pass of plain triplet training over the same pairs with the same backbone.
Other units bound the FLOPs themselves, the seconds of training, or the epochs of the method's own, however expensive
those are; work is counted under all of them.
"""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    pass


Unit: TypeAlias = Literal["epochs", "flops", "seconds", "own-epochs"]
"""`epochs` are baseline epochs, `own-epochs` those of the method, as `paper` means them: not compute-matched."""

_UNITS: dict[str, tuple[float, Unit]] = {
    "": (1, "epochs"),
    "epochs-equiv": (1, "epochs"),
    "flops": (1, "flops"),
    "s": (1, "seconds"),
    "m": (60, "seconds"),
    "h": (3600, "seconds"),
    "own-epochs": (1, "own-epochs"),
}
_WORDS: dict[Unit, str] = {"epochs": "", "flops": " FLOPs", "seconds": " s", "own-epochs": " own epochs"}
_SUFFIX: dict[Unit, str] = {unit: suffix for suffix, (scale, unit) in reversed(_UNITS.items()) if scale == 1}
_TEXT = re.compile(r"(?P<amount>[+\d.]+(?:e[+-]?\d+)?)\s*(?P<unit>[a-z-]*)")


@dataclass(frozen=True)
class Budget:
    """An amount of a unit, above 0. Raises ValueError for others, and for a part of an own epoch."""

    amount: float
    unit: Unit = "epochs"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise ValueError(f"a budget must be above 0, found {self.amount:g}")
        if self.unit == "own-epochs" and self.amount != round(self.amount):
            raise ValueError(f"own epochs are only counted whole, found {self.amount:g}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that is written as `5`, `5epochs-equiv`, `2e15flops`, `90s`, `10m`, `2h`, `5own-epochs`.

        Raises ValueError for another text.
        """
        found = _TEXT.fullmatch(text.strip().lower())
        try:
            assert found is not None
            amount, (scale, unit) = float(found["amount"]), _UNITS[found["unit"]]
        except (AssertionError, KeyError, ValueError):
            raise ValueError(
                f"{text!r} is no budget; write 5 (epochs of plain training), 2e15flops, 90s, 10m, 2h, 5own-epochs "
                "or paper"
            ) from None
        return cls(amount * scale, unit)

    @property
    def matched(self) -> bool:
        """Whether methods under this budget spend the same."""
        return self.unit != "own-epochs"

    @property
    def text(self) -> str:
        """What `parse` reads as this budget, to the last digit."""
        return f"{self.amount!r}{_SUFFIX[self.unit]}"

    def __str__(self) -> str:
        return f"{self.amount:g}{_WORDS[self.unit]}"


@dataclass(frozen=True)
class Paper:
    """The budget of a method's publication: each method has its own, see `Method.published_epochs`."""

    def __str__(self) -> str:
        return "paper"


class BudgetSpent(Exception):  # noqa: N818 - the regular end of training, not an error
    """The next piece of work does not fit into the budget any more."""


class Meter(ABC):
    """Counts training work; refuses what a budget does not allow before it is done.

    `used` are FLOPs, `pair_passes` similarities of an image and a caption that any network computed, `samples`
    captions that were encoded with gradients. The trainer calls `start` and `stop` around every step, and `epoch_over`
    after every epoch of the method's own.
    """

    def __init__(self) -> None:
        self.used = self.pair_passes = self.samples = 0
        self._paused = False

    @property
    @abstractmethod
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]: what schedules are fractions of."""

    @abstractmethod
    def _allows(self, flops: int) -> bool:
        """Return whether work of `flops` fits."""

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass; raises BudgetSpent, counting nothing, if it does not fit."""
        if self._paused:
            return
        if not self._allows(flops):
            raise BudgetSpent
        self.used += flops
        self.pair_passes += pairs
        self.samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside: evaluation is not training."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def start(self) -> None:  # noqa: B027 - most budgets need not know
        """Begin a step; raises BudgetSpent if no step fits any more."""

    def stop(self) -> None:  # noqa: B027
        """End a step, also one that did not begin."""

    def epoch_over(self) -> None:  # noqa: B027
        """End an epoch of the method's own."""

    def state_dict(self) -> dict[str, float]:
        """Return what was counted."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "total"}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take back what `state_dict` returned. Raises KeyError for the state of another kind of meter."""
        if set(state) != set(self.state_dict()):
            raise KeyError(f"a meter with {', '.join(sorted(state))}")
        vars(self).update(state)


class WorkMeter(Meter):
    """A budget of `total` FLOPs."""

    def __init__(self, total: int) -> None:
        super().__init__()
        if total <= 0:
            raise ValueError(f"the total must be positive, found {total}")
        self.total = total

    @property
    def progress(self) -> float:
        """Share of the FLOPs that are spent."""
        return self.used / self.total

    def _allows(self, flops: int) -> bool:
        return self.used + flops <= self.total


class TimeMeter(Meter):
    """A budget of `total` seconds of training, on the clock `now`; what runs between steps takes none of them.

    Progress moves from step to step. A step does not begin if the shorter of the last two would not fit: one of two
    may have begun with a pass over all pairs. A pass inside a step does not begin after the end.
    """

    def __init__(self, total: float, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.total = total
        self.spent = self.last = self.last_but_one = 0.0
        self._now = now
        self._since: float | None = None

    @property
    def progress(self) -> float:
        """Share of the seconds that are spent, as of the last step."""
        return min(1.0, self.spent / self.total)

    def start(self) -> None:
        """Begin to count time."""
        if self.spent + min(self.last, self.last_but_one) >= self.total:
            raise BudgetSpent
        self._since = self._now()

    def stop(self) -> None:
        """Count the time since `start`."""
        if self._since is not None:
            self.last, self.last_but_one = self._now() - self._since, self.last
            self.spent += self.last
            self._since = None

    def _allows(self, flops: int) -> bool:
        running = 0.0 if self._since is None else self._now() - self._since
        return self.spent + running < self.total


class EpochMeter(Meter):
    """A budget of `total` epochs of the method's own. Progress moves from epoch to epoch, as published schedules do."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.epochs = 0

    @property
    def progress(self) -> float:
        """Share of the epochs that are over; a hair more, so that k / n of them never counts as less than k / n."""
        return min(1.0, (self.epochs + 1e-9) / self.total) if self.epochs else 0.0

    def start(self) -> None:
        """Raise BudgetSpent if all epochs are over."""
        if self.epochs >= self.total:
            raise BudgetSpent

    def epoch_over(self) -> None:
        """Count an epoch."""
        self.epochs += 1

    def _allows(self, flops: int) -> bool:
        return True
