"""Methods that train in a moment, and settings with which shipped ones do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
            loss = sum(losses.hinge_mean(net(batch.images, batch.tokens, batch.lengths), 0.2) for net in self.nets)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}


class Twins(Toy):
    name = "twins"
    backbones = 2
