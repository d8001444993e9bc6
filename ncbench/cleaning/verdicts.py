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
DROP_FROM, REVIEW_FROM = 0.8, 0.2  # P(mismatched), by default


@dataclass(frozen=True)
class Rule:
    """How pairs are sorted.

    `ratio`: the most likely mismatched pairs are dropped, as many as the low end of the estimated ratio's interval;
    those up to its high end are for review. `threshold`: pairs with P(mismatched) of at least `drop_from` (default:
    0.8) are dropped, those of at least `review_from` (default: 0.2) are for review. `share`: exactly this share of the
    pairs is dropped, and none is for review. Raises UserError for numbers outside of [0, 1], those of another rule, and
    a `share` that is lacking.
    """

    name: RuleName = "ratio"
    drop_from: float | None = None
    review_from: float | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        drop_from, review_from = self.thresholds
        if not 0 <= review_from <= drop_from <= 1:
            raise UserError(
                f"P(mismatched) for review is {review_from:g} and to drop {drop_from:g}; expected numbers in [0, 1], "
                "the first not above the second"
            )
        if self.share is not None and not 0 <= self.share < 1:
            raise UserError(f"the share to drop is {self.share:g}; expected a number in [0, 1)")
        owners = {"drop_from": "threshold", "review_from": "threshold", "share": "share"}
        for number, owner in owners.items():
            if owner != self.name and getattr(self, number) is not None:
                option = f"--{number.replace('_', '-')}"
                raise UserError(f"{option} has no effect on pairs dropped by {self.name}; expected --drop {owner}")
        if self.name == "share" and self.share is None:
            raise UserError("--drop share does not say which share to drop; expected --share S, such as --share 0.1")

    @property
    def thresholds(self) -> tuple[float, float]:
        """P(mismatched) from which on a pair is dropped, and for review."""
        return (
            DROP_FROM if self.drop_from is None else self.drop_from,
            REVIEW_FROM if self.review_from is None else self.review_from,
        )

    @property
    def in_words(self) -> str:
        """What the rule does."""
        if self.name == "share":
            return f"the worst {self.share:.1%} dropped"
        if self.name == "threshold":
            return "P(mismatched) >= {:g} dropped, >= {:g} to review".format(*self.thresholds)
        return "as many dropped as the low end of the estimated ratio says, up to the high end to review"

    def verdicts(self, found: Findings) -> NDArray[np.int8]:
        """Return KEPT, REVIEW or DROPPED for each pair."""
        p = found.together.p_mismatched
        if self.name == "threshold":
            drop_from, review_from = self.thresholds
            return np.where(p >= drop_from, DROPPED, np.where(p >= review_from, REVIEW, KEPT)).astype(np.int8)
        ratio = found.together.ratio
        low, high = (ratio.low, ratio.high) if self.share is None else (self.share, self.share)
        place = np.empty(len(p), np.int64)
        place[found.order] = np.arange(len(p))
        dropped, doubtful = round(low * len(p)), round(high * len(p))
        return np.where(place < dropped, DROPPED, np.where(place < doubtful, REVIEW, KEPT)).astype(np.int8)
