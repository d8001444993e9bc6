"""Whether a method keeps its budget, and whether the meter sees all of its work."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from typing import Any
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ncbench.backbones.base import Backbone
from ncbench.budget import BudgetSpent, EpochMeter, WorkMeter
from ncbench.checks.method.candidate import SHORT_BUDGET, Candidate
from ncbench.checks.verdicts import Check, Failed
from ncbench.runtime.products import counting
from ncbench.training.audit import MAX_UNCHARGED, plain_share
from ncbench.training.loop import NoWork

MAX_OVERSPENDING = 1.5  # times the budget, at which a method that does not stop is stopped
OWN_EPOCHS = 2
MAX_EPOCH = 40.0  # baseline epochs that one of the method's own epochs may take
PATIENCE = 2.0  # seconds in all to wait for threads of the method to change weights, between updates
UPDATES_TO_WATCH = 6


CAUGHT = "it catches BudgetSpent"


class Overspent(BaseException):
    """A method continues although its budget is spent. Not an Exception, so that it does not catch it."""


class StrictMeter(WorkMeter):
    """A budget of work that a method cannot reset: it keeps its own count."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._accepted, self._refused = 0, 0

    @property
    def accepted(self) -> int:
        """FLOPs that were charged, whatever the method has done to `used`."""
        return self._accepted

    @property
    def refused(self) -> int:
        """How many passes were refused."""
        return self._refused

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass as a WorkMeter does. Raises Overspent if the method does not stop."""
        if self._refused > 1:
            raise Overspent("continues after its budget is spent")
        try:
            super().charge(flops, pairs, samples)
        except BudgetSpent:
            self._refused += 1
            raise
        if not self._paused:
            self._accepted += flops
        if self._accepted > MAX_OVERSPENDING * self.total:
            raise Overspent(f"spends more than {MAX_OVERSPENDING:g} times its budget")


def _budget(candidate: Candidate) -> str:
    meter = StrictMeter(round(SHORT_BUDGET * candidate.epoch_work))
    loop = candidate.loop(meter)
    updates = 0
    try:
        loop.set_up()
        for scalars in loop.updates():
            updates += scalars is not None
            if meter.refused:
                raise Failed(f"continues after its budget is spent; {CAUGHT}")
    except Overspent as error:
        raise Failed(f"{error}; {CAUGHT}") from None
    except NoWork as error:
        raise Failed(f"continues after its budget is spent; {CAUGHT}" if meter.refused else str(error)) from None
    if meter.accepted != meter.used:
        raise Failed(f"{meter.accepted:,} FLOPs were charged, but its meter shows {meter.used:,}: it changes the meter")
    if not updates:
        raise Failed(f"spends {SHORT_BUDGET:g} baseline epochs without an update")
    if not meter.refused:
        raise Failed("ends before its budget is spent")
    return f"{meter.used / meter.total:.1%} of the budget in {updates} updates; {_own_epochs(candidate)}"


def _own_epochs(candidate: Candidate) -> str:
    """Train for OWN_EPOCHS epochs of the method's own, which must end."""

    class Bounded(EpochMeter):
        def _allows(self, flops: int) -> bool:
            if self.used + flops > OWN_EPOCHS * MAX_EPOCH * candidate.epoch_work:
                raise Overspent
            return True

    loop = candidate.loop(Bounded(OWN_EPOCHS))
    try:
        loop.set_up()
        for _ in loop.updates():
            pass
    except Overspent:
        raise Failed(f"one of its own epochs does not end within {MAX_EPOCH:g} baseline epochs") from None
    return f"its own epochs take {loop.meter.used / OWN_EPOCHS / candidate.epoch_work:.1f}"


def _metered(candidate: Candidate) -> str:
    meter = StrictMeter(round(SHORT_BUDGET * candidate.epoch_work))
    loop = candidate.loop(meter)
    _, counted = loop.method.call(counting, partial(loop.method.inner.setup, loop.task))

    def watch(update: Callable[[], Any]) -> Any:
        nonlocal counted
        found, more = loop.method.call(counting, update)
        counted += more
        return found

    loop.method.watch = watch
    for number, _ in enumerate(loop.updates()):
        if number >= UPDATES_TO_WATCH:
            break
    share = counted / max(1, meter.accepted)
    words = f"torch counts {share:.2f} times the FLOPs that were charged"
    most = MAX_UNCHARGED * max(1.0, plain_share(loop.workshop(), loop.view))
    if share > most:
        raise Failed(f"{words}; expected at most {most:.2f} times")
    return words


class Watch:
    """Records training at times when nothing may train: backward passes, optimiser steps, changed weights."""

    def __init__(self, made: list[Backbone]) -> None:
        self.trained: list[str] = []
        self._made, self._doing = made, ""
        self._workers, self._patience = workers(), PATIENCE

    @contextmanager
    def outside(self, doing: str) -> Iterator[None]:
        """Raise Failed if something trains inside; `doing` says where that is."""
        before, self._doing = [fingerprint(network) for network in self._made], doing
        try:
            yield
        finally:
            self._doing = ""
        after = [fingerprint(network) for network in self._made[: len(before)]]
        if before != after:
            self.trained.append(f"weights change {doing}")
        if self.trained:
            raise Failed(self.trained[0])

    def wait(self) -> None:
        """If the method has started threads or processes, give them time to change weights."""
        before = [fingerprint(network) for network in self._made]
        while workers() - self._workers and self._patience > 0:
            since = time.monotonic()
            time.sleep(0.01)
            if [fingerprint(network) for network in self._made] != before:
                return
            self._patience -= time.monotonic() - since

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice the backward passes and optimiser steps of torch."""

        def noting(function: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*args: Any, **kwargs: Any) -> Any:
                self.note("a backward pass")
                return function(*args, **kwargs)

            return noted

        with ExitStack() as stack:
            for name in ("backward", "grad"):
                function = getattr(torch.autograd, name)
                stack.enter_context(mock.patch.object(torch.autograd, name, noting(function)))
            hook = register_optimizer_step_pre_hook(lambda *_: self.note("a step of an optimiser"))
            stack.callback(hook.remove)
            yield

    def note(self, what: str) -> None:
        """Record `what` if nothing may train now."""
        if self._doing:
            self.trained.append(f"{what} {self._doing}")


def workers() -> set[int]:
    """Return the identifiers of all threads that run Python, and of child processes."""
    return {*sys._current_frames(), *(process.pid or 0 for process in multiprocessing.active_children())}


def fingerprint(network: Backbone) -> bytes:
    """Return a digest of the weights of a network."""
    digest = sha256()
    for weight in network.parameters():
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _outside(candidate: Candidate) -> str:
    loop = candidate.loop()
    watch = Watch(loop.workshop.made)
    with watch.listening():
        with watch.outside("in setup"):
            loop.set_up()
        updates = 0
        for scalars in loop.updates():
            with watch.outside("between two updates"):
                watch.wait()
            updates += scalars is not None
            if updates >= UPDATES_TO_WATCH:
                break
        with loop.meter.paused():
            for name in ("pair_scores", "soft_labels", "rematches", "state_dict"):
                with watch.outside(f"in {name}"):
                    getattr(loop.method, name)()
    return f"nothing trains in setup, between {updates} updates, or when its beliefs or state are read"


BUDGET = Check(
    "budget",
    "trains until its budget is spent, then stops; its own epochs end",
    "do not catch BudgetSpent (no bare except around a pass), leave the meter alone, end train_epoch after one pass",
    _budget,
    after=("trains", "metered"),  # a method that charges next to nothing would train for days
)
METERED = Check(
    "metered",
    f"all work is charged: torch counts at most {MAX_UNCHARGED:g} times the FLOPs per FLOP charged of plain training",
    "call the backbone itself, not its parts; call task.budget.charge(flops) before a pass of your own networks",
    _metered,
    after=("trains",),
)
OUTSIDE = Check(
    "outside",
    "nothing trains outside of updates: not in setup, between yields, or when beliefs are read",
    "train in train_epoch only, in the thread that calls it, and yield after the update",
    _outside,
    after=("trains", "budget", "pair-scores", "state"),
)
