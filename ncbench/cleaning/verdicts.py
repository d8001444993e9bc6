"""Rules that sort pairs into kept, review and dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ncbench.cleaning.findings import Findings
from ncbench.errors import UserError

VERDICTS = ("kept", "review", "dropped")
KEPT, REVIEW, DROPPED = range(3)

RuleName: TypeAlias = Literal["ratio", "threshold", "share"]


@dataclass(frozen=True)
class Rule:
    """How pairs are sorted.

    `ratio`: the most likely mismatched pairs are dropped, as many as the low end of the estimated ratio's interval;
    those up to its high end are for review. `threshold`: pairs with P(mismatched) of at least `drop_from` are dropped,
    those of at least `review_from` are for review. `share`: exactly this share of the pairs is dropped, and none is for
    review. Raises UserError for numbers outside of [0, 1].
    """

    name: RuleName = "ratio"
    drop_from: float = 0.8
    review_from: float = 0.2
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.review_from <= self.drop_from <= 1:
            raise UserError(
                f"P(mismatched) for review is {self.review_from:g} and to drop {self.drop_from:g}; expected numbers in "
                "[0, 1], the first not above the second"
            )
        if not 0 <= self.share < 1:
            raise UserError(f"the share to drop is {self.share:g}; expected a number in [0, 1)")

    @property
    def in_words(self) -> str:
        """What the rule does."""
        if self.name == "share":
            return f"the worst {self.share:.1%} dropped"
        if self.name == "threshold":
            return f"P(mismatched) >= {self.drop_from:g} dropped, >= {self.review_from:g} to review"
        return "as many dropped as the low end of the estimated ratio says, up to the high end to review"

    def verdicts(self, found: Findings) -> NDArray[np.int8]:
        """Return KEPT, REVIEW or DROPPED for each pair."""
        p = found.together.p_mismatched
        if self.name == "threshold":
            return np.where(p >= self.drop_from, DROPPED, np.where(p >= self.review_from, REVIEW, KEPT)).astype(np.int8)
        low = high = self.share
        if self.name == "ratio":
            low, high = found.together.ratio.low, found.together.ratio.high
        place = np.empty(len(p), np.int64)
        place[found.order] = np.arange(len(p))
        dropped, doubtful = round(low * len(p)), round(high * len(p))
        return np.where(place < dropped, DROPPED, np.where(place < doubtful, REVIEW, KEPT)).astype(np.int8)
