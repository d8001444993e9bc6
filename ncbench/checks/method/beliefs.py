"""Whether the beliefs of a method about its training pairs have the shape and range that records expect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncbench.budget import WorkMeter
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.verdicts import Check, Failed, Skipped
from ncbench.method.base import Rematches
from ncbench.training.loop import Loop

BUDGET = 10.0  # baseline epochs, enough to get past a warm-up


def _examine(candidate: Candidate) -> str:
    loop = candidate.loop(WorkMeter(round(BUDGET * candidate.epoch_work)))
    loop.set_up()
    _beliefs(loop, "before training")
    for _ in loop.updates():
        pass
    found = _beliefs(loop, "after training")
    if not found:
        raise Skipped("it has no beliefs: pair_scores, soft_labels and rematches are None")
    return ", ".join(found)


def _beliefs(loop: Loop, when: str) -> list[str]:
    """Check the beliefs of the method and describe them. Raises Failed."""
    with loop.meter.paused():
        scores, labels, rematches = loop.method.pair_scores(), loop.method.soft_labels(), loop.method.rematches()
    pairs, found = len(loop.view), []
    for name, values in (("pair_scores()", scores), ("soft_labels()", labels)):
        if values is not None:
            _check_shares(f"{name} {when}", values, pairs)
            found.append(f"{name} in [{values.min():.2f}, {values.max():.2f}]")
    if rematches is not None:
        _check_rematches(f"rematches() {when}", rematches, pairs, loop.view.n_images)
        found.append(f"{len(rematches.captions)} rematches")
    return found


def _check_shares(what: str, values: object, count: int) -> None:
    if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype.kind != "f":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise Failed(f"{what} must be an array of {count} floats, found {found}")
    wrong = ~((values >= 0) & (values <= 1))  # NaN too
    if wrong.any():
        pair = int(np.argmax(wrong))
        raise Failed(f"{what} must be in [0, 1], found {values[pair]} for pair {pair} ({wrong.sum()} values in all)")


def _check_rematches(what: str, found: object, pairs: int, images: int) -> None:
    if not isinstance(found, Rematches):
        raise Failed(f"{what} must be ncbench.Rematches, found {type(found).__name__}")
    _check_numbers(f"captions of {what}", found.captions, pairs)
    _check_numbers(f"images of {what}", found.images, images)
    if not len(found.captions) == len(found.images) == len(found.weights):
        raise Failed(f"{what} must have as many images and weights as captions")
    _check_shares(f"weights of {what}", found.weights, len(found.captions))


def _check_numbers(what: str, values: object, stop: int) -> None:
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "iu":
        raise Failed(f"{what} must be a vector of integers, found {values!r:.60}")
    numbers: NDArray[np.int64] = values
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < stop):
        raise Failed(f"{what} must be in [0, {stop}), found {numbers.min()} to {numbers.max()}")


CHECK = Check(
    "pair-scores",
    "pair_scores and soft_labels are (pairs,) floats in [0, 1], rematches name existing pairs; or they are None",
    "return float64 arrays with one entry per training pair, P(clean) for pair_scores; None while there is no estimate",
    _examine,
    after=("trains", "budget"),
)
