"""Epochs of a method by the training loop of ncbench, with nothing around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ncbench.training import loop
from ncbench.training.loop import Scalars


def train_epoch(method: Any, epoch: int, resumed: bool = False) -> Iterator[Scalars]:
    """Yield the scalars of every update of an epoch of `method`, which keeps its task in `task`."""
    view = method.task.data
    if not resumed:
        view.new_epoch()
    yield from loop.train_epoch(method, view, epoch, resumed)
