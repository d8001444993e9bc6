"""Rules: worked examples."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench.cleaning.calibration import Ratio
from ncbench.cleaning.findings import Findings, Opinion
from ncbench.cleaning.verdicts import DROPPED, KEPT, REVIEW, Rule
from ncbench.errors import UserError

P = np.array([0.9, 0.1, 0.5, 0.8, 0.0])
FOUND = Findings(Opinion(-P, P, Ratio(0.5, 0.2, 0.6), 0.9), {})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), [DROPPED, KEPT, REVIEW, REVIEW, KEPT]),
        (Rule("threshold"), [DROPPED, KEPT, REVIEW, DROPPED, KEPT]),
        (Rule("threshold", 0.9, 0.9), [DROPPED, KEPT, KEPT, KEPT, KEPT]),
        (Rule("share", share=0.4), [DROPPED, KEPT, KEPT, DROPPED, KEPT]),
    ],
)
def test_rules(rule: Rule, expected: list[int]) -> None:
    assert rule.verdicts(FOUND).tolist() == expected


def test_ties_go_by_score() -> None:
    found = Findings(Opinion(np.array([3.0, 1.0, 2.0]), np.ones(3), Ratio(0.3, 0.3, 0.3), 0.9), {})
    assert Rule("share", share=0.34).verdicts(found).tolist() == [KEPT, DROPPED, KEPT]


@pytest.mark.parametrize("numbers", [(0.5, 0.6, 0.0), (1.1, 0.2, 0.0), (0.8, -0.1, 0.0), (0.8, 0.2, 1.0)])
def test_numbers_that_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="expected"):
        Rule("threshold", *numbers)
