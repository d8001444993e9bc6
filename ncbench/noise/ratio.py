"""How much noise: what users and records say of it."""

from __future__ import annotations

import math
from typing import Literal

from ncbench.errors import UserError

CLEAN = "clean"
"""What stands in records for any protocol at ratio 0."""
NATURAL: Literal["natural"] = "natural"
"""What a user says instead of a ratio, and what stands in records, where pairs are mismatched by nature."""

Amount = float | Literal["natural"]
"""How much noise: the noise ratio, in [0, 1), or that of nature."""


def amount_of(value: object) -> Amount:
    """Return the noise ratio that `value` stands for, a number or a text. Raises UserError for what is none."""
    if value == NATURAL:
        return NATURAL
    try:
        ratio = float(str(value))
    except ValueError:
        ratio = math.nan
    check_ratio(ratio, value)
    return ratio


def check_ratio(ratio: float, said: object = None) -> None:
    """Raise UserError unless `ratio`, which was `said` so, is in [0, 1)."""
    if not 0 <= ratio < 1:
        raise UserError(
            f"{ratio if said is None else said!r} is not a noise ratio; it must be at least 0 and below 1, for example "
            "0.4, or natural where pairs are mismatched by nature."
        )


def noise_in_words(protocol: str, ratio: float) -> str:
    """Return what noise is, as records have it, in words."""
    if protocol == NATURAL:
        return "natural noise (truth unknown)"
    return f"{protocol} {ratio:g}" if ratio else "clean pairs"


def ratio_in_words(protocol: str, ratio: float) -> str:
    """Return how much noise there is, as records have it."""
    return "unknown" if protocol == NATURAL else f"{ratio:g}"
