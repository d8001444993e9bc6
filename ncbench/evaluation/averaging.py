"""Averaging the similarities of several networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import FloatArray

Scores = NDArray[np.float64]

EVIDENCE_TAU = 0.1

_BLOCK_ELEMENTS = 1 << 18  # converted at a time


def evidence(scores: Scores) -> Scores:
    """Return the evidence exp(tanh(r) / tau) of sigmoid `scores` = 1 / (1 + exp(-r)), any shape, tau = 0.1.

    With s the score, exp(r) = s / (1 - s) and tanh(r) = (2 s - 1) / (s^2 + (1 - s)^2), also for s = 0 and s = 1.
    Source: DECL (Qin et al., ACM MM 2022); its published evaluation averages the evidence of SGR and SAF.
    """
    result: Scores = np.exp((2 * scores - 1) / (scores**2 + (1 - scores) ** 2) / EVIDENCE_TAU)
    return result


def identity(scores: Scores) -> Scores:
    """Return `scores` unchanged."""
    return scores


TRANSFORMS: dict[str, Callable[[Scores], Scores]] = {"scores": identity, "evidence": evidence}
"""Elementwise functions of the similarities that can be averaged over networks, by name."""


def average(matrices: Iterable[FloatArray], transform: Callable[[Scores], Scores] = identity) -> FloatArray:
    """Return the mean over `matrices`, all of one shape, after the elementwise `transform`. Iterates once.

    Sums in float64, returns float32. Raises ValueError if there are no matrices.
    """
    total: NDArray[Any] | None = None
    count = 0
    for matrix in matrices:
        total = np.zeros(matrix.shape) if total is None else total
        count += 1
        step = max(1, _BLOCK_ELEMENTS // max(1, matrix.shape[-1]))
        for start in range(0, len(matrix), step):  # a float64 copy of the matrix may take gigabytes
            total[start : start + step] += transform(matrix[start : start + step].astype(np.float64))
    if total is None:
        raise ValueError("no similarities to average")
    total /= count
    return total.astype(np.float32)
