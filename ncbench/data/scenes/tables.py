"""Sines, cosines and exponentials as whole numbers, so that no result depends on a machine's mathematical library.

Entries are rounded from floating point. None lies near a tie, so every library gives the same entries; a test says how
far the nearest one is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]

TURN = 4_096
"""Steps of a full turn in SINE."""
ONE_BITS = 14
ONE = 1 << ONE_BITS
"""The number that stands for 1 in sines and cosines."""
DECAY_STEP = 64
"""Steps per unit in DECAY."""
_DECAY_REACH = 8


def sine_by_degree(degrees: int) -> int:
    """Return round(ONE * sin) of a whole number of degrees."""
    return round(ONE * math.sin(math.radians(degrees % 360)))


def cosine_by_degree(degrees: int) -> int:
    """Return round(ONE * cos) of a whole number of degrees."""
    return sine_by_degree(degrees + 90)


SINE: Table = np.array([round(ONE * math.sin(2 * math.pi * step / TURN)) for step in range(TURN)], np.int64)
DECAY: Table = np.array([round(ONE * math.exp(-n / DECAY_STEP)) for n in range(_DECAY_REACH * DECAY_STEP)], np.int64)


def sine(steps: Table) -> Table:
    """Return ONE * sin of angles in steps of 1 / TURN."""
    return SINE[steps % TURN]


def decay(values: Table) -> Table:
    """Return ONE * exp(-x) of values x >= 0 in units of 1 / DECAY_STEP; 0 far away."""
    return np.where(values < len(DECAY), DECAY[np.minimum(values, len(DECAY) - 1)], 0)
