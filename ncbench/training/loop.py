"""The training loop: epochs of a method, update by update, under a meter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import build_backbone
from ncbench.budget import BudgetSpent, Meter
from ncbench.data.training_view import TrainingView
from ncbench.method.base import Method, Task
from ncbench.runtime.device import synchronise
from ncbench.runtime.seeds import derive_seed
from ncbench.runtime.state import State, capture
from ncbench.training.clean_pairs import draw_clean_pairs
from ncbench.training.seclusion import MeterLine, Secluded

Scalars: TypeAlias = Mapping[str, float]


class Workshop:
    """Makes metered backbones of one kind and size on a device, and keeps them in `made`.

    A method holds it as `Task.new_backbone`, so it knows nothing about the run beyond what a method may know: not even
    the meter, only a line to it.
    """

    def __init__(self, name: str, sizes: Sizes, device: torch.device, precision: Precision, meter: Meter) -> None:
        self.made: list[Backbone] = []
        self.device, self.line = device, MeterLine(meter)
        self._name, self._sizes, self._precision = name, sizes, precision

    def __call__(self, *, head: int = 0) -> Backbone:
        """Return a freshly initialised backbone, with a head of `head` hidden units if given."""
        backbone = build_backbone(self._name, replace(self._sizes, head=head)).to(self.device)
        backbone.on_work = self.line.charge
        backbone.use_precision(self._precision)
        self.made.append(backbone)
        return backbone


def make_task(
    method: Method | Secluded, view: TrainingView, workshop: Workshop, seed: int, clean: NDArray[np.bool_] | None = None
) -> Task:
    """Return the task of `method` in a run with `seed`.

    `clean`, (pairs,) bool, says which pairs are clean, if that is known. It reaches a method that needs the truth; one
    that needs some clean pairs receives these only. Raises UserError if there are not enough of them.
    """
    needed = method.clean_pairs_needed(len(view))
    return Task(
        data=view,
        device=workshop.device,
        budget=workshop.line,
        new_backbone=workshop,
        seed=derive_seed(seed, "method", method.name),
        truth=clean if method.needs_truth else None,
        clean=draw_clean_pairs(method.name, needed, clean, seed) if needed else None,
    )


def train_epoch(method: Method | Secluded, view: TrainingView, epoch: int, resumed: bool = False) -> Iterator[Scalars]:
    """Train `method` for one epoch, or for the rest of one that is `resumed`; yield its scalars after every update."""
    if not resumed:
        method.begin_epoch(epoch)
    with view.recording():
        updates = iter(method.train_epoch(epoch))
    while True:
        with view.recording():
            try:
                scalars = next(updates)
            except StopIteration:
                return
        yield scalars


class NoWork(RuntimeError):  # noqa: N818 - says what happened
    """An update or an epoch did not use the budget, so training would never end."""


class Loop:
    """Trains a method, epoch after epoch, until the budget of `meter` is spent; see `make_task` for `seed` and `clean`.

    The method runs in a thread of its own, see `ncbench.training.seclusion`. `workshop` has the same meter.

    `epoch` is the number of the current epoch, and `midway` whether it has made an update.
    """

    def __init__(
        self,
        method: Method | Secluded,
        view: TrainingView,
        workshop: Workshop,
        meter: Meter,
        seed: int,
        clean: NDArray[np.bool_] | None = None,
    ) -> None:
        self.method = method if isinstance(method, Secluded) else Secluded(method)
        self.view, self.workshop, self.meter = view, workshop, meter
        self.task = make_task(self.method, view, workshop, seed, clean)
        self.epoch, self.midway = 0, False

    def set_up(self) -> None:
        """Let the method build what it trains."""
        self.view.new_epoch()
        self.method.setup(self.task)
        self.meter.expect(len(self.view) * len(self.workshop.made))

    def updates(self) -> Iterator[Scalars | None]:
        """Yield the scalars of every update, and None after every epoch, until the budget is spent.

        Raises NoWork.
        """
        steps = self._steps()
        while True:
            try:
                self.meter.start()
                scalars = next(steps)
            except BudgetSpent:
                return
            finally:
                synchronise(self.workshop.device)
                self.meter.stop()
            yield scalars

    def _steps(self) -> Iterator[Scalars | None]:
        while True:
            start = before = self.meter.used
            resumed = self.midway  # an epoch that is resumed may have no updates left
            for scalars in train_epoch(self.method, self.view, self.epoch, resumed):
                self._check_work(before, f"an update in epoch {self.epoch}")
                before, self.midway = self.meter.used, True
                yield scalars
            if not resumed:
                self._check_work(start, f"epoch {self.epoch}")
            self.view.new_epoch()
            self.epoch, self.midway = self.epoch + 1, False
            self.meter.epoch_over()
            yield None

    def _check_work(self, before: int, what: str) -> None:
        if self.meter.used == before:
            raise NoWork(f"{what} of {self.method.name} did no work, so training would never end")

    def state_dict(self) -> State:
        """Return the state of the method, its meter and, in the middle of an epoch, its batches."""
        return {
            "method": self.method.state_dict(),
            "view": capture(self.view.state_dict()) if self.midway else None,
            "work": self.meter.state_dict(),
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned, after `set_up`. Raises KeyError for the state of another method."""
        self.method.load_state_dict(state["method"])
        self.meter.load_state_dict(state["work"])
        self.epoch, self.midway = state["epoch"], state["view"] is not None
        if self.midway:
            self.view.load_state_dict(state["view"])
