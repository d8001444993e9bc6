"""Training budgets, and the meters that count what a run spends.

Work is counted in floating-point operations (FLOPs), computed with the cost formulas of the backbones; the count is the
same on every machine. The default unit is the *baseline epoch*: the work of one epoch of plain triplet training on the
same pairs with the same backbone. A budget can also limit FLOPs, seconds of training, or the method's own epochs
regardless of their cost. FLOPs are counted in all cases.
"""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Unit: TypeAlias = Literal["epochs", "flops", "seconds", "own-epochs", "self-reported"]
"""`epochs` are baseline epochs. `own-epochs` are epochs of the method, as in papers; they are not compute-matched.
`self-reported` is what a training outside ncbench spent, of any amount: nobody bounded or counted it."""

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
_UNMATCHED: frozenset[Unit] = frozenset({"own-epochs", "self-reported"})
_SUFFIX: dict[Unit, str] = {unit: suffix for suffix, (scale, unit) in reversed(_UNITS.items()) if scale == 1}
_TEXT = re.compile(r"(?P<amount>[+\d.]+(?:e[+-]?\d+)?)\s*(?P<unit>[a-z-]*)")


@dataclass(frozen=True)
class Budget:
    """A positive amount of a unit. Raises ValueError if it is not positive, or a fraction of an own epoch."""

    amount: float
    unit: Unit = "epochs"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise ValueError(f"a budget must be positive, found {self.amount:g}")
        if self.unit == "own-epochs" and self.amount != round(self.amount):
            raise ValueError(f"own-epochs must be an integer, found {self.amount:g}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Parse `5`, `5epochs-equiv`, `2e15flops`, `90s`, `10m`, `2h` or `5own-epochs`.

        Raises ValueError for any other text.
        """
        found = _TEXT.fullmatch(text.strip().lower())
        try:
            assert found is not None
            amount, (scale, unit) = float(found["amount"]), _UNITS[found["unit"]]
        except (AssertionError, KeyError, ValueError):
            raise ValueError(
                f"{text!r} is not a valid budget. Use 5 (baseline epochs), 2e15flops, 90s, 10m, 2h, 5own-epochs or "
                "paper."
            ) from None
        return cls(amount * scale, unit)

    @property
    def matched(self) -> bool:
        """Whether all methods spend the same under this budget."""
        return self.unit not in _UNMATCHED

    @property
    def self_reported(self) -> bool:
        """Whether somebody trained outside ncbench, and told what it cost."""
        return self.unit == "self-reported"

    @property
    def text(self) -> str:
        """The text that `parse` reads as exactly this budget. Raises KeyError for a self-reported one."""
        return f"{self.amount!r}{_SUFFIX[self.unit]}"

    def __str__(self) -> str:
        return "self-reported" if self.self_reported else f"{self.amount:g}{_WORDS[self.unit]}"


SELF_REPORTED = Budget(1, "self-reported")


@dataclass(frozen=True)
class Paper:
    """The published budget of each method; see `Method.published_epochs`."""

    def __str__(self) -> str:
        return "paper"


MAX_WITHIN = 1 - 1e-6
"""An epoch that is longer than expected waits here: no later epoch begins before it does."""


class Allowance(Protocol):
    """What a method holds of its budget."""

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]. Schedules are functions of it."""

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass of `flops`, before it is made. Raises BudgetSpent, and counts nothing, if it does not fit."""


class BudgetSpent(Exception):  # noqa: N818 - the regular end of training, not an error
    """The next piece of work would exceed the budget."""


class Meter(ABC):
    """Counts training work, and raises BudgetSpent before work that would exceed the budget.

    `used` counts FLOPs, `pair_passes` the image-caption similarities computed by any network, and `samples` the
    captions encoded with gradients. The trainer calls `start` and `stop` around each step, and `epoch_over` after each
    epoch of the method.
    """

    def __init__(self) -> None:
        self.used = self.pair_passes = self.samples = 0
        self._paused = False

    @property
    @abstractmethod
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]. Schedules are functions of it."""

    @abstractmethod
    def _allows(self, flops: int) -> bool:
        """Return whether work of `flops` fits into the budget."""

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass. Raises BudgetSpent, and counts nothing, if it does not fit; ValueError for negative amounts."""
        if min(flops, pairs, samples) < 0:
            raise ValueError(f"work must not be negative, found {flops} FLOPs, {pairs} pairs, {samples} samples")
        if self._paused:
            return
        if not self._allows(flops):
            raise BudgetSpent
        self.used += flops
        self.pair_passes += pairs
        self.samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count inside this block; used for evaluation."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def start(self) -> None:  # noqa: B027 - optional hook
        """Start a step. Raises BudgetSpent if no further step fits."""

    def stop(self) -> None:  # noqa: B027
        """End a step. Also called for steps that did not start."""

    def epoch_over(self) -> None:  # noqa: B027
        """End an epoch of the method."""

    def expect(self, samples: int) -> None:  # noqa: B027
        """Take note that an epoch should encode so many captions with gradients."""

    def state_dict(self) -> dict[str, float]:
        """Return the counts."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "total"}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore a state returned by `state_dict`. Raises KeyError for the state of another kind of meter."""
        if set(state) != set(self.state_dict()):
            raise KeyError(f"state of another meter: {', '.join(sorted(state))}")
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
        """Share of the FLOPs that is spent."""
        return self.used / self.total

    def _allows(self, flops: int) -> bool:
        return self.used + flops <= self.total


class TimeMeter(Meter):
    """A budget of `total` seconds of training on the clock `now`; time between steps does not count.

    Progress is updated after each step. A step does not start if the shorter of the last two steps would not fit; the
    shorter, because one may have included a pass over all pairs. A pass within a step does not start once the time is
    up.
    """

    def __init__(self, total: float, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.total = total
        self.spent = self.last = self.last_but_one = 0.0
        self._now = now
        self._since: float | None = None

    @property
    def progress(self) -> float:
        """Share of the seconds that was spent at the end of the last step."""
        return min(1.0, self.spent / self.total)

    def start(self) -> None:
        """Start the clock. Raises BudgetSpent if no further step fits."""
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
    """A budget of `total` epochs of the method. Progress moves with every update, and is exact at the ends of epochs.

    Within an epoch, it follows the captions encoded with gradients: the share of those of the epoch before or, in the
    first, of what `expect` was told.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.epochs = 0
        self.began = self.expected = 0  # samples before this epoch, and in one

    @property
    def progress(self) -> float:
        """Share of the epochs that are done, plus 1e-9 epochs so that rounding never makes it less than k / n."""
        within = (self.samples - self.began) / self.expected if self.expected else 0.0
        done = self.epochs + min(within, MAX_WITHIN)
        return min(1.0, (done + 1e-9) / self.total) if done else 0.0

    def expect(self, samples: int) -> None:
        """Expect that an epoch encodes so many captions with gradients."""
        self.expected = samples

    def start(self) -> None:
        """Raise BudgetSpent if all epochs are done."""
        if self.epochs >= self.total:
            raise BudgetSpent

    def epoch_over(self) -> None:
        """Count an epoch."""
        self.epochs += 1
        self.began, self.expected = self.samples, self.samples - self.began or self.expected

    def _allows(self, flops: int) -> bool:
        return True
