"""Noise ratios in options and records."""

from __future__ import annotations

import math
from typing import Literal

from ncbench.errors import UserError

CLEAN = "clean"
"""The protocol in records of all runs at ratio 0."""
NATURAL: Literal["natural"] = "natural"
"""Used instead of a ratio, and in records, for datasets whose pairs are mismatched by nature."""

Amount = float | Literal["natural"]
"""A noise ratio in [0, 1), or "natural"."""


def amount_of(value: object) -> Amount:
    """Return the noise ratio given as a number or a string. Raises UserError if it is not valid."""
    if value == NATURAL:
        return NATURAL
    try:
        ratio = float(str(value))
    except ValueError:
        ratio = math.nan
    check_ratio(ratio, value)
    return ratio


def check_ratio(ratio: float, said: object = None) -> None:
    """Raise UserError unless `ratio`, which the user wrote as `said`, is in [0, 1)."""
    if not 0 <= ratio < 1:
        raise UserError(
            f"{ratio if said is None else said!r} is not a noise ratio; it must be at least 0 and below 1, for example "
            "0.4, or natural where pairs are mismatched by nature."
        )


def noise_in_words(protocol: str, ratio: float) -> str:
    """Return a description of the noise of a run, from its record."""
    if protocol == NATURAL:
        return "natural noise (truth unknown)"
    return f"{protocol} {ratio:g}" if ratio else "clean pairs"


def ratio_in_words(protocol: str, ratio: float) -> str:
    """Return the noise ratio of a run as text, from its record."""
    return "unknown" if protocol == NATURAL else f"{ratio:g}"
