"""A second count of work, beside the meter's: what torch computes in updates that are drawn at random.

The meter counts what is charged, by formulas. In some updates, which a method cannot foresee, torch counts the products
that it computes, those of any network. A method that charges less than it computes is seen in the ratio of the two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from ncbench.backbones.base import Backbone
from ncbench.budget import Meter
from ncbench.data.training_view import TrainingView
from ncbench.method import losses
from ncbench.records.measurements import Audited
from ncbench.records.work import WATCHED_WITHIN
from ncbench.runtime.products import ProductCounter, counting
from ncbench.runtime.rng_state import random_state, set_random_state
from ncbench.training.seclusion import Secluded

FIRST_WITHIN = WATCHED_WITHIN
"""The first update that is watched is one of so many. Later ones are further apart, in proportion to their number."""
SPREAD, GAP = 2, 32
MAX_UNCHARGED = 1.25
"""FLOPs that torch counts, losses included, over FLOPs charged by formula."""
PLAIN_BATCH = 32

Found = TypeVar("Found")


class Audit:
    """Watches some updates of a method; `watch` makes an update, and `found` tells what was counted."""

    def __init__(self, method: Secluded, meter: Meter) -> None:
        self._method, self._meter = method, meter
        self._random = random.SystemRandom()  # not of the seed, so that no method knows it
        self._number, self._next = 0, self._random.randint(1, FIRST_WITHIN)
        self._watched = self._charged = self._counted = 0

    def watch(self, update: Callable[[], Found]) -> Found:
        """Return `update()`, called in the thread of the method; count what torch does in it if it is its turn."""
        self._number += 1
        if self._number < self._next:
            return self._method.call(update)
        self._next = self._number + self._random.randint(1, 2 * max(GAP, self._number // SPREAD))
        before = self._meter.used
        both: tuple[Found, int] = self._method.call(counting, update)
        found, counted = both
        self._watched += 1
        self._charged += self._meter.used - before
        self._counted += counted
        return found

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"number": self._number, "watched": self._watched, "charged": self._charged, "counted": self._counted}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore what `state_dict` returned; which updates are watched next is drawn anew."""
        self._number, self._watched = state["number"], state["watched"]
        self._charged, self._counted = state["charged"], state["counted"]
        self._next = self._number + self._random.randint(1, FIRST_WITHIN)

    def found(self, plain: Callable[[], float]) -> Audited:
        """Return the counts. `plain` returns the FLOPs that torch counts in plain training, over those charged."""
        most = MAX_UNCHARGED
        if self._counted > most * self._charged:
            most *= max(1.0, plain())
        return Audited(updates=self._watched, charged=self._charged, counted=self._counted, most=most)


def plain_share(network: Backbone, view: TrainingView) -> float:
    """Return the FLOPs that torch counts in a plain update of `network` over those charged: what formulas omit."""
    charged = 0

    def charge(flops: int, pairs: int = 0, samples: int = 0) -> None:
        nonlocal charged
        charged += flops

    state = random_state()
    try:
        network.on_work = charge
        batch = view.batch(np.arange(min(PLAIN_BATCH, len(view))))
        with ProductCounter() as counter:
            losses.hinge_mean(network(*batch.inputs), 0.2).backward()  # type: ignore[no-untyped-call]
    finally:
        set_random_state(state)
    return float(counter.flops / charged)
