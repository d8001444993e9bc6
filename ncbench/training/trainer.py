"""Training and selection: a method trains within its budget and is evaluated on dev at equal shares of it.

The dev split is evaluated each time another 1/n of the budget is spent, after the update that passes the mark. So the
best model of every method is selected at the same amounts of work, however long the method's own epochs are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.budget import Meter
from ncbench.data.dataset import IntVector, Split
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation.outcome import retrieval_of
from ncbench.evaluation.unfinished import Unfinished
from ncbench.method.base import Method
from ncbench.records.history import History, HistoryLine
from ncbench.records.measurements import Audited
from ncbench.records.result import Scores
from ncbench.records.spec import RunSpec
from ncbench.runtime.state import State, capture
from ncbench.training.audit import Audit, plain_share
from ncbench.training.blind_scoring import score_blindly
from ncbench.training.course import CourseJudge
from ncbench.training.loop import Loop, Scalars, Workshop
from ncbench.training.seclusion import Secluded

USES = ("training", "evaluation", "checkpoints")


class Diverged(Exception):  # noqa: N818 - an outcome of training
    """The loss of an update is not a finite number."""


@dataclass
class Clock:
    """Seconds spent, by use."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(USES, 0.0))

    def spend(self, use: str, since: float) -> None:
        """Add the time since `since` (of `time.perf_counter`) to a use."""
        self.seconds[use] += time.perf_counter() - since


@dataclass
class Selected:
    """The best state on dev so far: rSum, share of the budget spent, and weights of every backbone."""

    rsum: float = -math.inf
    share: float = 0.0
    weights: list[dict[str, Tensor]] = field(default_factory=list)


class Trainer:
    """Trains `method` with backbones `name` of `sizes` until the budget is spent; keeps the best state on dev."""

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
        self.spec, self.name, self.method, self.meter = spec, name, Secluded(method), meter
        self.device, self.clock, self.history = device, clock, history
        self.sizes = sizes
        self.workshop = Workshop(name, sizes, device, spec.precision, meter)
        self.backbones = self.workshop.made
        self.selected = Selected()
        self.given_clean: IntVector = np.empty(0, np.int64)
        self.course_judge: CourseJudge | None = None
        self.updates = self.marks = 0
        self.over = self.done = False  # trained; and evaluated for the last time
        self.unfinished: Unfinished | None = None
        self.loss: float | None = None

    def set_up(self, view: TrainingView, truth: NDArray[np.bool_] | None = None) -> None:
        """Let the method build what it trains on `view`. `truth` says which pairs are clean: see `make_task`."""
        self.audit = Audit(self.method, self.meter)
        self.method.watch = self.audit.watch
        self.loop = Loop(self.method, view, self.workshop, self.meter, self.spec.seed, truth)
        if self.loop.task.clean is not None:
            self.given_clean = self.loop.task.clean
        self.loop.set_up()

    def train(self, dev: Split, report: Callable[[str], None], between: Callable[[bool], None]) -> None:
        """Train, select on `dev` and load the selected weights.

        `report` is called with what the trainer is doing, after every update and before every evaluation; `between`
        after every update, and after every epoch with True. Raises Diverged, UserError if the budget is too small for
        one update, and what `between` raises.
        """
        self._select_if_due(dev, report)  # if the evaluation was interrupted
        for scalars in () if self.over else self._timed_updates():
            if scalars is not None:
                self.updates += 1
                self.loss = float(scalars["loss"])
                if not math.isfinite(self.loss):
                    raise Diverged(f"the loss is {self.loss} at update {self.updates}")
            self._select_if_due(dev, report)
            if scalars is not None:
                report("training")
            between(scalars is None)
        self.over = True
        if self.updates == 0:
            budget, method = self.spec.budget, self.spec.method
            raise UserError(f"a budget of {budget} is too small for one update of {method}; raise --budget.")
        self._select(dev, report)
        for backbone, weights in zip(self.backbones, self.selected.weights, strict=True):
            backbone.load_state_dict(weights)
        self.done = True

    def spend(self) -> tuple[int, float]:
        """Train until the budget is spent, without evaluating; return the FLOPs and the seconds that it took.

        The first update, which is slower than the others, does not count unless it is the only one.
        """
        first = (0, 0.0)
        for updates, _ in enumerate(self._timed_updates()):
            if updates == 0:
                first = self.meter.used, self.clock.seconds["training"]
        used, seconds = self.meter.used - first[0], self.clock.seconds["training"] - first[1]
        return (used, seconds) if used else (self.meter.used, self.clock.seconds["training"])

    def audited(self) -> Audited:
        """Return the second count of the work of this process."""
        return self.audit.found(lambda: plain_share(self._plain_network(), self.loop.view))

    def _plain_network(self) -> Backbone:
        """Return a network of the same kind, which is none of those that are trained."""
        network = build_backbone(self.name, self.sizes).to(self.device)
        network.use_precision(self.spec.precision)
        return network

    @property
    def resumable(self) -> bool:
        """Whether training can be resumed from `state_dict` as it is now."""
        return self.over or self.method.resumes_midway or not self.loop.midway

    def state_dict(self) -> State:
        """Return all that is needed to resume training from here, except the state of global generators."""
        return {
            **self.loop.state_dict(),
            "updates": self.updates,
            "loss": self.loss,
            "marks": self.marks,
            "selected": capture(vars(self.selected)),
            "over": self.over,
            "done": self.done,
            "audit": self.audit.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned, after `set_up`. Raises KeyError for the state of another method."""
        self.loop.load_state_dict(state)
        self.audit.load_state_dict(state["audit"])
        self.updates, self.loss = state["updates"], state["loss"]
        self.marks, self.done = state["marks"], state["done"]
        self.over = state.get("over", self.done)
        self.selected = Selected(**state["selected"])

    def _marks_passed(self) -> int:
        """Return how many evaluations, of all but the last, are due at this point of the budget."""
        return min(int(self.meter.progress * self.spec.evaluations), self.spec.evaluations - 1)

    def _timed_updates(self) -> Iterator[Scalars | None]:
        """Yield what `Loop.updates` yields, on the training clock."""
        updates = self.loop.updates()
        while True:
            since = time.perf_counter()
            try:
                scalars = next(updates)
            except StopIteration:
                return
            finally:
                self.clock.spend("training", since)
            yield scalars

    def _select_if_due(self, dev: Split, report: Callable[[str], None]) -> None:
        """Evaluate dev if another mark is passed. It counts as passed afterwards: an interrupted evaluation is due."""
        if self._marks_passed() > self.marks:
            self._select(dev, report)
            self.marks = self._marks_passed()

    def _select(self, dev: Split, report: Callable[[str], None]) -> None:
        """Evaluate dev, write it to the history, and keep the weights if they are the best so far."""
        report("evaluating")
        since = time.perf_counter()
        with self.meter.paused():
            scored = score_blindly(
                self.method, self.backbones, dev, self.device, self.spec.noise_digest, self.unfinished
            )
            retrieval = retrieval_of(scored, dev.true)
            judge = self.course_judge
            plan = judge.shares(self.method, self.backbones) if judge else None
            beliefs = judge.detections(self.method, self.backbones, self.given_clean) if judge else (None, None)
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
                plan=plan,
                detection=beliefs[0],
                soft_labels=beliefs[1],
            )
        )
