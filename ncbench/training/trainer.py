"""Training: a method with the backbones that it builds, within a budget, evaluated on dev at equal shares of it.

The dev split is evaluated each time another 1/n of the budget is spent, after the update that passes the mark. Every
method has its chances to be selected at the same amounts of work, however long its own epochs are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench.backbones.base import Sizes
from ncbench.budget import BudgetSpent, Meter
from ncbench.data.dataset import IntVector, Split
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation.retrieval import evaluate
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.base import Method, Task
from ncbench.records.history import History, HistoryLine
from ncbench.records.result import Scores
from ncbench.records.spec import RunSpec
from ncbench.runtime.device import synchronise
from ncbench.runtime.seeds import derive_seed
from ncbench.runtime.state import State, capture
from ncbench.training.clean_pairs import draw_clean_pairs
from ncbench.training.loop import Workshop

USES = ("training", "evaluation", "checkpoints")


class Diverged(Exception):  # noqa: N818 - an outcome of training
    """The loss of an update is not a finite number."""


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(USES, 0.0))

    def spend(self, use: str, since: float) -> None:
        """Add the time since `since` (of time.perf_counter) to a use."""
        self.seconds[use] += time.perf_counter() - since


@dataclass
class Selected:
    """The best state on dev so far: weights of every backbone, its rsum, the share of the budget it took."""

    rsum: float = -math.inf
    share: float = 0.0
    weights: list[dict[str, Tensor]] = field(default_factory=list)


class Trainer:
    """Trains `method` with backbones called `name`, `sizes` large, until the meter refuses; keeps the best on dev."""

    def __init__(
        self,
        spec: RunSpec,
        name: str,
        sizes: Sizes,
        method: Method,
        meter: Meter,
        device: torch.device,
        clock: Clock,
        history: History,
    ) -> None:
        self.spec, self.name, self.method, self.meter = spec, name, method, meter
        self.device, self.clock, self.history = device, clock, history
        self.workshop = Workshop(name, sizes, device, spec.precision, meter.charge)
        self.backbones = self.workshop.made
        self.selected = Selected()
        self.told: IntVector = np.empty(0, np.int64)
        self.epoch = self.updates = self.marks = 0
        self.midway = self.done = False
        self.loss: float | None = None

    def set_up(self, view: TrainingView, truth: NDArray[np.bool_] | None = None) -> None:
        """Let the method build what it trains on `view`.

        `truth`, which pairs are clean, reaches only a method that needs it; another may be told of some clean pairs.
        """
        self.view = view
        view.begin_epoch()
        seed = derive_seed(self.spec.seed, "method", self.spec.method)
        known = truth if self.method.needs_truth else None
        needed = self.method.clean_pairs_needed(len(view))
        if needed:
            self.told = draw_clean_pairs(self.spec.method, needed, truth, self.spec.seed)
        told = self.told if needed else None
        self.method.setup(Task(view, self.device, self.meter, self.workshop, seed, known, told))

    def train(self, dev: Split, report: Callable[[str], None], between: Callable[[bool], None]) -> None:
        """Train, select on `dev`, load what was selected; `report` is told what is being done, often.

        `between` is called after every update, and after every epoch with True. Raises Diverged, UserError if the
        budget does not allow for one update, and what `between` raises.
        """
        for scalars in self._timed_updates():
            if scalars is not None:
                self.updates += 1
                self.loss = float(scalars["loss"])
                if not math.isfinite(self.loss):
                    raise Diverged(f"the loss is {self.loss} at update {self.updates}")
            if self._marks_passed() > self.marks:
                self.marks = self._marks_passed()
                self._select(dev, report)
            if scalars is not None:
                report("training")
            between(scalars is None)
        if self.updates == 0:
            budget, method = self.spec.budget, self.spec.method
            raise UserError(f"a budget of {budget} is too small for one update of {method}; raise --budget.")
        self._select(dev, report)
        for backbone, weights in zip(self.backbones, self.selected.weights, strict=True):
            backbone.load_state_dict(weights)
        self.done = True

    def spend(self) -> tuple[int, float]:
        """Train until the meter refuses, without evaluating; return the FLOPs and the seconds on the clock.

        Those of the first update, which is slower than others, do not count where there are more.
        """
        first = (0, 0.0)
        for updates, _ in enumerate(self._timed_updates()):
            if updates == 0:
                first = self.meter.used, self.clock.seconds["training"]
        used, seconds = self.meter.used - first[0], self.clock.seconds["training"] - first[1]
        return (used, seconds) if used else (self.meter.used, self.clock.seconds["training"])

    @property
    def resumable(self) -> bool:
        """Whether training can go on from `state_dict` as it is now."""
        return self.method.resumes_midway or not self.midway

    def state_dict(self) -> State:
        """Return all that training needs to go on from where it is, but for global generators."""
        return {
            "method": self.method.state_dict(),
            "view": capture(self.view.state_dict()) if self.midway else None,
            "work": self.meter.state_dict(),
            "epoch": self.epoch,
            "updates": self.updates,
            "loss": self.loss,
            "marks": self.marks,
            "selected": capture(vars(self.selected)),
            "done": self.done,
        }

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` returned, after `set_up`. Raises KeyError for the state of another method."""
        self.method.load_state_dict(state["method"])
        self.meter.load_state_dict(state["work"])
        self.epoch, self.updates = state["epoch"], state["updates"]
        self.loss, self.marks, self.done = state["loss"], state["marks"], state["done"]
        self.selected = Selected(**state["selected"])
        self.midway = state["view"] is not None
        if self.midway:
            self.view.load_state_dict(state["view"])

    def _marks_passed(self) -> int:
        """Return how many of the evaluations before the last one are due at this point of the budget."""
        return min(int(self.meter.progress * self.spec.evaluations), self.spec.evaluations - 1)

    def _timed_updates(self) -> Iterator[Mapping[str, float] | None]:
        """Yield the scalars of every update until the budget is spent, on the training clock; None after an epoch."""
        updates = self._updates()
        while True:
            since = time.perf_counter()
            try:
                self.meter.start()
                scalars = next(updates)
            except BudgetSpent:
                return
            finally:
                synchronise(self.device)
                self.meter.stop()
                self.clock.spend("training", since)
            yield scalars

    def _updates(self) -> Iterator[Mapping[str, float] | None]:
        while True:
            start = before = self.meter.used
            midway = self.midway  # then nothing may be left of the epoch
            for scalars in self.method.train_epoch(self.epoch):
                self._check_work(before, f"an update in epoch {self.epoch}")
                before, self.midway = self.meter.used, True
                yield scalars
            if not midway:
                self._check_work(start, f"epoch {self.epoch}")
            self.view.begin_epoch()
            self.epoch, self.midway = self.epoch + 1, False
            self.meter.epoch_over()
            yield None

    def _check_work(self, before: int, what: str) -> None:
        if self.meter.used == before:
            raise RuntimeError(f"{what} of {self.spec.method} did no work: it would go on for ever")

    def _select(self, dev: Split, report: Callable[[str], None]) -> None:
        """Evaluate dev, note it, and keep the weights if they are the best so far."""
        report("evaluating")
        since = time.perf_counter()
        with self.meter.paused():
            retrieval = evaluate(similarity_matrix(self.backbones, dev, self.device), dev.true)
        self.clock.spend("evaluation", since)
        if retrieval.rsum > self.selected.rsum:
            weights = [{k: v.detach().cpu().clone() for k, v in b.state_dict().items()} for b in self.backbones]
            self.selected = Selected(retrieval.rsum, self.meter.progress, weights)
        self.history.add(
            HistoryLine(
                backbone=self.name,
                share=self.meter.progress,
                work=self.meter.used,
                updates=self.updates,
                loss=self.loss,
                dev=Scores.of(retrieval),
                seconds=self.clock.seconds["training"],
            )
        )
