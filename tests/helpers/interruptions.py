"""Runs that end early, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy_methods import Toy

from ncbench.records.progress import Progress
from ncbench.records.record import Record
from ncbench.records.store import CHECKPOINT
from ncbench.training.run import Cadence

ALWAYS = Cadence(epoch=0.0, midway=0.0)

NEVER = Cadence(epoch=1e9, midway=1e9)


class Killed(BaseException):
    """The process ends here, whatever it does."""


class ByEpochs(Toy):
    """Cannot be resumed in the middle of an epoch, as it counts its updates in a local variable; uses the global
    generators."""

    name = "by-epochs"
    resumes_midway = False

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for number, scalars in enumerate(super().train_epoch(epoch)):
            for weight in self.nets[0].parameters():
                weight.data += 1e-3 * number * float(np.random.random()) * torch.rand(())
            yield scalars


def killed_at(number: int) -> Callable[[Progress], None]:
    """Return a watcher that ends the process when it is told of progress for the `number`-th time."""
    told = 0

    def watch(progress: Progress) -> None:
        nonlocal told
        told += 1
        if told == number:
            raise Killed

    return watch


def record(folder: Path) -> dict[str, Any]:
    """Return all that a finished run leaves behind, but for times."""
    assert not (folder / CHECKPOINT).exists()
    history = [
        {key: value for key, value in line.items() if key != "seconds"} for line in Record(folder).history_lines()
    ]
    ranks = np.load(folder / "ranks.npz")
    return {
        "result": (folder / "result.json").read_bytes(),
        "model": (folder / "model.safetensors").read_bytes(),
        "history": history,
        "ranks": {key: ranks[key].tolist() for key in ranks},
    }
