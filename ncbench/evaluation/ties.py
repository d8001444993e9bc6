"""Ties in similarity matrices. They earn nothing, so many of them mean that scores say little about a network."""

from __future__ import annotations

import warnings

import numpy as np

from ncbench.data.data_warning import DataWarning
from ncbench.data.dataset import IntVector
from ncbench.evaluation.retrieval import Similarities

MAX_TIED_SHARE = 0.1
"""Share of captions above which ties are told. Real-valued scores tie by chance in less than one in a thousand."""

MIN_TIED = 5
_BLOCK_ROWS = 256  # compared at a time


def tied_captions(similarities: Similarities, true: IntVector) -> int:
    """Return how many captions score another image exactly as high as their own.

    `similarities` is (images, captions), `true` (captions,) the image of each caption.
    """
    own = similarities[true, np.arange(len(true))]
    equal = np.full(len(true), -1)  # the caption's own image is counted below
    for start in range(0, len(similarities), _BLOCK_ROWS):
        equal += np.count_nonzero(similarities[start : start + _BLOCK_ROWS] == own, axis=0)
    return int(np.count_nonzero(equal))


def warn_if_tied(tied: int, captions: int, where: str) -> None:
    """Warn (DataWarning) if `tied` of so many captions are far more than by chance; `where` says what was evaluated."""
    if tied >= MIN_TIED and tied > MAX_TIED_SHARE * captions:
        warnings.warn(
            f"{where}: {tied / captions:.0%} of the captions score another image exactly as high as their own, and "
            "ties count as errors; images may repeat (see `ncbench data check`), or the network scores all alike",
            DataWarning,
            stacklevel=2,
        )
