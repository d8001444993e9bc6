"""Rules: worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from ncbench.cleaning.calibration import Ratio
from ncbench.cleaning.findings import Findings, Opinion
from ncbench.cleaning.verdicts import DROP_FROM, DROPPED, KEPT, REVIEW, REVIEW_FROM, Rule, RuleName
from ncbench.cli import main
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


@pytest.mark.parametrize("numbers", [(0.5, 0.6), (1.1, 0.2), (0.8, -0.1), (None, 0.9), (0.8, 0.2, 1.0)])
def test_numbers_that_are_refused(numbers: tuple[float | None, ...]) -> None:
    with pytest.raises(UserError, match="expected"):
        Rule("threshold", *numbers)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("ratio", {"drop_from": 0.9}, "--drop-from has no effect on pairs dropped by ratio; expected --drop threshold"),
        ("share", {"share": 0.1, "review_from": 0.1}, "--review-from has no effect on pairs dropped by share"),
        ("threshold", {"share": 0.1}, "--share has no effect on pairs dropped by threshold; expected --drop share"),
        ("share", {}, "--drop share does not say which share to drop; expected --share S"),
    ],
)
def test_numbers_of_another_rule_are_refused(name: RuleName, numbers: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(name, **numbers)


def test_no_pair_is_dropped_where_the_share_is_zero() -> None:
    assert Rule("share", share=0.0).verdicts(FOUND).tolist() == [KEPT] * 5


def test_the_help_has_the_defaults() -> None:
    words = " ".join(CliRunner().invoke(main, ["clean", "--help"]).output.split())
    assert f"drop from this P. [default: {DROP_FROM}]" in words
    assert f"review from this P. [default: {REVIEW_FROM}]" in words
