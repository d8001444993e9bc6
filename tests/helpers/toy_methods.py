"""Methods that train in a moment, and settings with which shipped ones do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ncbench import Method, Optimiser, Task, losses, setting

FAST: dict[str, dict[str, object]] = {
    "triplet": {"batch_size": 8, "lr": 2e-2},
    "l2rm": {"batch_size": 8, "queue": 12, "lr": 2e-2, "reg": 0.07, "planted": 0.5},
}


class Toy(Method):
    """The plainest method: one loss, one backbone or two."""

    name = "toy"
    backbones = 1

    @dataclass(frozen=True)
    class Config:
        batch_size: int = setting(8, "pairs", "here")

    def setup(self, task: Task) -> None:
        self.task = task
        self.nets = [task.new_backbone() for _ in range(self.backbones)]
        self.optimiser = Optimiser(self.nets, task.budget, lr=1e-2)
        self.rng = task.rng("order")

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(self.config.batch_size, self.rng):
            loss = sum(losses.hinge_mean(net(*batch.inputs), 0.2) for net in self.nets)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}


class Twins(Toy):
    name = "twins"
    backbones = 2


class Diverging(Toy):
    """Has a loss that is no number from its third update on."""

    name = "diverging"

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for number, scalars in enumerate(super().train_epoch(epoch)):
            yield scalars if number < 2 else {"loss": math.nan}


class Quick(Method):
    """Learns with settings of its own; fails on request."""

    name = "quick"

    @dataclass(frozen=True)
    class Config:
        batch_size: int = setting(8, "pairs per update", "here")
        lr: float = setting(1e-2, "learning rate", "[red]there[/red]")
        fails: bool = setting(False, "whether the loss becomes NaN", "here")

    presets: ClassVar = {"tiny": {"lr": 0.0123456}}

    def setup(self, task: Task) -> None:
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser([self.net], task.budget, lr=self.config.lr)
        self.rng = task.rng("order")

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(self.config.batch_size, self.rng):
            loss = losses.hinge_mean(self.net(*batch.inputs), 0.2)
            self.optimiser.step(loss)
            yield {"loss": math.nan if self.config.fails else loss.item()}


class Failing(Quick):
    """Fails always."""

    name = "failing"
    presets: ClassVar = {"tiny": {"fails": True}}
