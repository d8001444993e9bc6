"""Whether a method spends what it is given and no more, and whether the meter sees all that it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from ncbench.backbones.base import Backbone
from ncbench.budget import BudgetSpent, EpochMeter, WorkMeter
from ncbench.checks.method.candidate import LARGEST_BATCH, SHORT, Candidate
from ncbench.checks.verdicts import Check, Failed
from ncbench.method import losses

OVER = 1.5  # times the budget: then a method is stopped that would go on for ever
OWN_EPOCHS = 2
LONGEST_EPOCH = 40.0  # baseline epochs that an epoch of the method's own may take
UNSEEN = 1.25  # times the work charged that torch may count: losses, and what formulas leave out
IDLE_SECONDS = 0.02  # for which nothing may train between two updates
WATCHED = 6  # updates


class Overspent(BaseException):
    """A method goes on although its budget is spent; it is not to be caught."""


class StrictMeter(WorkMeter):
    """A budget of work that cannot be reset: what was accepted is counted apart."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._accepted, self._refused = 0, 0

    @property
    def accepted(self) -> int:
        """FLOPs that were accepted, whatever the method has done to `used`."""
        return self._accepted

    @property
    def refused(self) -> int:
        """How often a pass was refused."""
        return self._refused

    def charge(self, flops: int, pairs: int = 0, samples: int = 0) -> None:
        """Count a pass as a WorkMeter does. Raises Overspent for a method that asks on and on."""
        if self._refused > 1:
            raise Overspent("asks for more work after its budget was spent")
        try:
            super().charge(flops, pairs, samples)
        except BudgetSpent:
            self._refused += 1
            raise
        if not self._paused:
            self._accepted += flops
        if self._accepted > OVER * self.total:
            raise Overspent(f"spends more than {OVER:g} times its budget")


def _budget(candidate: Candidate) -> str:
    meter = StrictMeter(round(SHORT * candidate.epoch_work))
    loop = candidate.loop(meter)
    updates = 0
    try:
        loop.set_up()
        for scalars in loop.updates():
            before, updates = updates, updates + (scalars is not None)
            if meter.refused:
                raise Failed("goes on after its budget is spent: a BudgetSpent does not get through")
            if before == updates == 0:
                raise Failed("an epoch without an update, which would go on for ever")
    except Overspent as error:
        raise Failed(f"{error}: a BudgetSpent does not get through") from None
    if meter.accepted != meter.used:
        raise Failed(f"{meter.accepted:,} FLOPs were charged, but its meter says {meter.used:,}: it was tampered with")
    if not updates:
        raise Failed(f"spends {SHORT:g} baseline epochs without an update")
    if not meter.refused:
        raise Failed("ends by itself before its budget is spent")
    return f"{meter.used / meter.total:.1%} of the budget in {updates} updates; {_own_epochs(candidate)}"


def _own_epochs(candidate: Candidate) -> str:
    """Train for so many epochs of the method's own, which must end."""

    class Bounded(EpochMeter):
        def _allows(self, flops: int) -> bool:
            if self.used + flops > OWN_EPOCHS * LONGEST_EPOCH * candidate.epoch_work:
                raise Overspent
            return True

    loop = candidate.loop(Bounded(OWN_EPOCHS))
    try:
        loop.set_up()
        for _ in loop.updates():
            pass
    except Overspent:
        raise Failed(f"an epoch of its own does not end within {LONGEST_EPOCH:g} baseline epochs") from None
    return f"an epoch of its own takes {loop.meter.used / OWN_EPOCHS / candidate.epoch_work:.1f}"


def _metered(candidate: Candidate) -> str:
    meter = StrictMeter(round(SHORT * candidate.epoch_work))
    loop = candidate.loop(meter)
    with FlopCounterMode(display=False) as counter:
        loop.set_up()
        for number, _ in enumerate(loop.updates()):
            if number >= WATCHED:
                break
    share = counter.get_total_flops() / max(1, meter.accepted)
    words = f"torch counts {share:.2f} times the FLOPs that were charged"
    most = UNSEEN * max(1.0, _plain_share(candidate))
    if share > most:
        raise Failed(f"{words}; at most {most:.2f} times is in order")
    return words


def _plain_share(candidate: Candidate) -> float:
    """Return how many times the FLOPs charged torch counts in plain training: what formulas of small networks omit."""
    meter = WorkMeter(candidate.epoch_work)
    loop = candidate.loop(meter)
    network = loop.workshop()
    batch = loop.view.batch(np.arange(LARGEST_BATCH))
    with FlopCounterMode(display=False) as counter:
        losses.hinge_mean(network(batch.images, batch.tokens, batch.lengths), 0.2).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops() / meter.used)


class Watch:
    """Notes training that happens while nothing may train: backward passes, steps of optimisers, changed weights."""

    def __init__(self, made: list[Backbone]) -> None:
        self.trained: list[str] = []
        self._made, self._doing = made, ""

    @contextmanager
    def outside(self, doing: str) -> Iterator[None]:
        """Nothing may train inside; `doing` says where that is. Raises Failed if something does."""
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

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to torch."""

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
        """Note `what` if it happens where nothing may train."""
        if self._doing:
            self.trained.append(f"{what} {self._doing}")


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
            with watch.outside("between two updates, while nothing was asked of it"):
                time.sleep(IDLE_SECONDS)
            updates += scalars is not None
            if updates >= WATCHED:
                break
        with loop.meter.paused():
            for name in ("pair_scores", "soft_labels", "rematches", "state_dict"):
                with watch.outside(f"in {name}"):
                    getattr(loop.method, name)()
    return f"nothing trains in setup, between {updates} updates, nor when it is asked for beliefs or state"


BUDGET = Check(
    "budget",
    "trains until its budget is spent, and stops there; epochs of its own end",
    "let BudgetSpent through (no bare except around a pass), leave the meter alone, and end train_epoch after one pass",
    _budget,
    after=("trains",),
)
METERED = Check(
    "metered",
    f"the meter sees its work: of FLOPs charged, torch counts at most {UNSEEN:g} times what it does in plain training",
    "call the backbone itself, not its parts; call task.budget.charge(flops) before passes of networks of your own",
    _metered,
    after=("trains", "budget"),
)
OUTSIDE = Check(
    "outside",
    "nothing is trained outside of updates: not in setup, between yields, or where beliefs are told",
    "train in train_epoch only, in the thread that calls it, and yield after the update",
    _outside,
    after=("trains", "budget", "pair-scores", "state"),
)
