"""A method that keeps the contract, and others that break one article of it each."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ncbench import Batch, Method, Optimiser, Rematches, Task, TrainingSettings, losses
from ncbench.backbones.base import ignore_work
from ncbench.budget import BudgetSpent
from ncbench.data.vocabulary import SPECIAL
from ncbench.training.numbering import Numbering


class Sound(Method):
    """Keeps the contract."""

    name = "sound"

    @dataclass(frozen=True)
    class Config(TrainingSettings):
        pass

    presets = {"shapes": {"lr": 1e-2}}

    def setup(self, task: Task) -> None:
        self.task = task
        self.order = task.rng("order")
        self.net = task.new_backbone()
        self.optimiser = Optimiser.of(self.config, [self.net], task.budget)

    def batches(self, pairs: Any = None) -> Iterator[Batch]:
        return self.task.data.batches(self.config.batch_size, self.order, pairs)

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.batches():
            yield {"loss": self.update(batch)}

    def update(self, batch: Batch) -> float:
        loss = self.loss(batch)
        self.optimiser.step(loss)
        return loss.item()

    def loss(self, batch: Batch) -> torch.Tensor:
        return losses.hinge_mean(self.net(*batch.inputs), 0.2)

    def pair_scores(self) -> Any:
        return np.full(len(self.task.data), 0.5)


class Silent(Sound):
    """Yields no loss."""

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        yield from ({"cost": scalars["loss"]} for scalars in super().train_epoch(epoch))


class Idle(Sound):
    """Has epochs without updates."""

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        return iter(())


class Infinite(Sound):
    """Loses its footing at once."""

    def update(self, batch: Batch) -> float:
        return super().update(batch) * math.inf


class Homemade(Sound):
    """Builds no network."""

    def setup(self, task: Task) -> None:
        self.task = task

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        self.task.budget.charge(10**4)
        yield {"loss": 0.0}


class Deaf(Sound):
    """Does not hear that its budget is spent."""

    def update(self, batch: Batch) -> float:
        try:
            return super().update(batch)
        except BudgetSpent:
            return 0.0


class Forger(Sound):
    """Sets the meter back."""

    def update(self, batch: Batch) -> float:
        self.task.budget.used //= 2
        return super().update(batch)


class Endless(Sound):
    """Has one epoch, which never ends."""

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        while True:
            yield from super().train_epoch(epoch)


class OverSure(Sound):
    """Believes with 120 per cent."""

    def pair_scores(self) -> Any:
        return np.full(len(self.task.data), 1.2)


class Half(Sound):
    """Tells of one half of the pairs."""

    def soft_labels(self) -> Any:
        return np.full(len(self.task.data) // 2, 0.5)


class Astray(Sound):
    """Rematches to an image that is not there."""

    def rematches(self) -> Any:
        return Rematches(np.array([0]), np.array([self.task.data.n_images]), np.array([1.0]))


class Lazy(Sound):
    """Learns nothing."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.optimiser = Optimiser([self.net], task.budget, lr=1e-9)


class Unmetered(Sound):
    """Has a network of its own that nobody counts."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.own = nn.Linear(256, 256)

    def loss(self, batch: Batch) -> torch.Tensor:
        return super().loss(batch) + 0 * self.own(torch.ones(256, 256)).sum()


class Unseen(Sound):
    """Takes the meter off its network for some passes."""

    def loss(self, batch: Batch) -> torch.Tensor:
        metered, self.net.on_work = self.net.on_work, ignore_work
        for _ in range(2):
            super().loss(batch)
        self.net.on_work = metered
        return super().loss(batch)


class EarlyBird(Sound):
    """Trains in setup."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.optimiser.step(self.loss(task.data.batch(np.arange(8))))


class LateBird(Sound):
    """Trains where it is asked for its beliefs."""

    def pair_scores(self) -> Any:
        with torch.no_grad():
            for weight in self.net.parameters():
                weight.mul_(0.999)
        return super().pair_scores()


class Busy(Sound):
    """Trains in a thread, until it has made a thousand steps."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        threading.Thread(target=self.train, args=(next(iter(self.net.parameters())),), daemon=True).start()

    def train(self, weight: torch.Tensor) -> None:
        for _ in range(1000):
            with torch.no_grad():
                weight.mul_(0.9999)
            threading.Event().wait(1e-3)


class Moody(Sound):
    """Shuffles by the mood of the day."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.order = np.random.default_rng()


class Forgetful(Sound):
    """Takes no state back."""

    def load_state_dict(self, state: Any) -> None:
        pass


class Opaque(Sound):
    """Keeps a set, which no state can hold."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.seen = {1, 2}


class Restless(Sound):
    """Counts the updates of an epoch in a local variable, which is lost when the epoch is resumed."""

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for number, batch in enumerate(self.batches()):
            loss = self.loss(batch) / (1 + number)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}


class Fickle(Sound):
    """Creates its batches in another order when an epoch is resumed."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.turn = 0
        self.halves = np.array_split(np.arange(len(task.data)), 2)

    def begin_epoch(self, epoch: int) -> None:
        self.turn = 0

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        made = {turn: self.batches(self.halves[turn]) for turn in (self.turn, 1 - self.turn)}
        while True:
            batch = next(made[self.turn], None)
            if batch is None:
                return
            self.turn = 1 - self.turn
            yield {"loss": self.update(batch)}


class Peeping(Sound):
    """Looks through the frames of its callers for what it is not told."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        seen = [info.frame.f_locals.get("truth") for info in inspect.stack()]
        self.known = next((np.flatnonzero(truth) for truth in seen if truth is not None), None)

    def batches(self, pairs: Any = None) -> Iterator[Batch]:
        return super().batches(self.known)


class Hoarding(Sound):
    """Finds the truth, and only keeps it, where no state sees it."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        for info in inspect.stack():
            run = info.frame.f_locals.get("self")
            if hasattr(run, "noise") and hasattr(run, "trainers"):
                type(self).hoard = {"deep": [run.dataset.splits["train"].true.tolist()]}  # type: ignore[attr-defined]


class Rooted(Sound):
    """Works on one device only."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        if task.device.index is not None:
            raise RuntimeError("Expected all tensors to be on the same device")


class Numerologist(Sound):
    """Believes that pair p is of image p // k, as in the files of datasets."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        pairs = len(task.data)
        self.kept = np.flatnonzero(task.data.claimed == np.arange(pairs) // (pairs // task.data.n_images))

    def pair_scores(self) -> Any:
        scores = np.full(len(self.task.data), 0.25)
        scores[self.kept] = 0.75
        return scores


class Dropping(Sound):
    """Leaves out pairs that disagree with their neighbour, says nothing of it, and holds nothing of it."""

    def batches(self, pairs: Any = None) -> Iterator[Batch]:
        claimed = self.task.data.claimed
        agrees = claimed == claimed[np.arange(len(claimed)) ^ 1 if len(claimed) % 2 == 0 else slice(None)]
        return super().batches(np.flatnonzero(agrees) if agrees.mean() > 0.1 else None)


class Unshuffling(Sound):
    """Guesses the seed of the run, and undoes its numbering."""

    def pair_scores(self) -> Any:
        data = self.task.data
        guesses = [self.guess(Numbering.draw(len(data), data.n_images, seed)) for seed in range(10)]
        return np.where(max(guesses, key=np.mean), 0.75, 0.25)

    def guess(self, numbering: Numbering) -> np.ndarray:
        pairs, images = len(self.task.data), self.task.data.n_images
        return numbering.images[self.task.data.claimed] == numbering.captions // (pairs // images)


class Fragile(Sound):
    """Divides by how many captions begin with a shape of the image that they claim: few, under heavy noise."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        batch = task.data.batch(np.arange(len(task.data)))
        shown = batch.images > 0.5
        first = shown.any(1).gather(1, (batch.tokens[:, 1:2] - len(SPECIAL)).clamp(0, shown.shape[2] - 1))
        shapes = bool((shown.sum(2) == 1).float().mean() > 0.9)  # in other sets than those of shapes, any
        self.matching = float(first.float().mean()) if shapes else 1.0

    def loss(self, batch: Batch) -> torch.Tensor:
        return super().loss(batch) / (0.0 if self.matching < 0.5 else self.matching)


class Rigid(Sound):
    """Has a matrix of labels of the size that the settings say."""

    def loss(self, batch: Batch) -> torch.Tensor:
        similarities = self.net(*batch.inputs)
        return -(similarities * torch.eye(self.config.batch_size)).mean() + super().loss(batch)


class Paired(Sound):
    """Takes for granted that every image has two captions."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        self.images = task.data.claimed.reshape(task.data.n_images, 2)


class Regional(Sound):
    """Takes for granted that there is a second region."""

    def loss(self, batch: Batch) -> torch.Tensor:
        return super().loss(batch) + 0 * batch.images[:, 1].sum()


BROKEN: dict[type[Method], tuple[str, str]] = {
    Silent: ("trains", "yields ['cost'] without 'loss'"),
    Idle: ("trains", "epoch 0 of sound did no work"),
    Infinite: ("trains", "its loss is inf within 3 updates"),
    Homemade: ("trains", "builds no backbone with task.new_backbone()"),
    Deaf: ("budget", "it catches BudgetSpent"),
    Forger: ("trains", "AttributeError: 'MeterLine' object has no attribute 'used'"),
    Endless: ("budget", "one of its own epochs does not end within 40 baseline epochs"),
    OverSure: ("pair-scores", "pair_scores() before training must be in [0, 1], found 1.2 for pair 0 (256 values"),
    Half: ("pair-scores", "soft_labels() before training must be an array of 256 floats, found float64 (128,)"),
    Astray: ("pair-scores", "images of rematches() before training must be in [0, 128), found 128 to 128"),
    Lazy: ("learns", "it must be 2 times"),
    Unmetered: ("metered", "times the FLOPs that were charged; expected at most 1.25 times"),
    Unseen: ("metered", "times the FLOPs that were charged; expected at most 1.25 times"),
    EarlyBird: ("outside", "a backward pass in setup"),
    LateBird: ("outside", "weights change in pair_scores"),
    Moody: ("same-seed", "a second run ends in another result"),
    Forgetful: ("state", "its state differs after a new object has loaded it"),
    Opaque: ("state", "TypeError: cannot save sound.seen: type set is not supported"),
    Restless: ("resume", "a run that was interrupted 3 times ends in another result"),
    Fickle: ("resume", "a run that was interrupted 3 times ends in another result"),
    Numerologist: ("numbers", "tells clean pairs from others (AUC 1.00) in a training set of random images"),
    Dropping: ("numbers", "how often it takes a pair into a batch tells clean pairs from others (AUC 0."),
    Unshuffling: ("numbers", "pair_scores() tells clean pairs from others (AUC 1.00)"),
    Rooted: ("devices", "on cpu:0: RuntimeError: Expected all tensors to be on the same device"),
    Fragile: ("heavy-noise", "the loss is inf at update 1"),
    Rigid: ("short-batch", "RuntimeError: The size of tensor a (2) must match the size of tensor b (32)"),
    Paired: (
        "one-caption",
        "ValueError: cannot reshape array of size 257 into shape (257,2) (broken_methods.py, line ",
    ),
    Regional: ("one-region", "IndexError: index 1 is out of bounds for dimension 1 with size 1"),
}
"""Methods that break the contract: the one check that each must fail, and what that must say."""

PREVENTED: dict[type[Method], tuple[str, str]] = {
    Peeping: ("hidden", "self.known"),
    Hoarding: ("hidden", "is the true correspondence"),
}
"""Methods that find nothing in a thread of their own, and what is said if they had found it."""
