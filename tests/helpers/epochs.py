"""Epochs of a method by the training loop of ncbench, with nothing around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ncbench.budget import BudgetSpent
from ncbench.training import loop
from ncbench.training.loop import Scalars

MANY = 1000


def train_epoch(method: Any, epoch: int, resumed: bool = False) -> Iterator[Scalars]:
    """Yield the scalars of every update of an epoch of `method`, which keeps its task in `task`."""
    view = method.task.data
    if not resumed:
        view.new_epoch()
    yield from loop.train_epoch(method, view, epoch, resumed)


def train_epochs(method: Any, epochs: Iterable[int] | None = None) -> Iterator[Scalars]:
    """Yield the scalars of every update of `epochs`, or of all epochs until the budget is spent."""
    try:
        for epoch in range(MANY) if epochs is None else epochs:
            yield from train_epoch(method, epoch)
    except BudgetSpent:
        return
    assert epochs is not None, "the budget is never spent"
