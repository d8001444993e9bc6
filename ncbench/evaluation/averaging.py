"""Averages over the similarities of several networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import FloatArray

Scores = NDArray[np.float64]

EVIDENCE_TAU = 0.1


def evidence(scores: Scores) -> Scores:
    """Return the evidence exp(tanh(r) / tau) of sigmoid `scores` = 1 / (1 + exp(-r)), any shape, tau = 0.1.

    With s the score, exp(r) = s / (1 - s) and tanh(r) = (2 s - 1) / (s^2 + (1 - s)^2), which holds for s = 0 and s = 1
    too. DECL (Qin et al., ACM MM 2022), whose published evaluation averages this over SGR and SAF.
    """
    result: Scores = np.exp((2 * scores - 1) / (scores**2 + (1 - scores) ** 2) / EVIDENCE_TAU)
    return result


def unchanged(scores: Scores) -> Scores:
    """Return `scores`."""
    return scores


AVERAGED: dict[str, Callable[[Scores], Scores]] = {"scores": unchanged, "evidence": evidence}
"""What is averaged over networks, by name."""


def average(matrices: Iterable[FloatArray], transform: Callable[[Scores], Scores] = unchanged) -> FloatArray:
    """Return the mean of `transform`, which works by element, over `matrices` of one shape; each is taken once.

    The sum is in float64, the result float32. Raises ValueError if there are no matrices.
    """
    total: NDArray[Any] | None = None
    count = 0
    for matrix in matrices:
        total = np.zeros(matrix.shape) if total is None else total
        count += 1
        for row, scores in zip(total, matrix, strict=True):  # by rows: a copy of it all may be gigabytes
            row += transform(scores.astype(np.float64))
    if total is None:
        raise ValueError("no similarities to average")
    total /= count
    return total.astype(np.float32)
