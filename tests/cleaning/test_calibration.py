"""Scores to probabilities: against the mixture that made the scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ncbench.cleaning.calibration import combined, estimate_ratio, mismatch_probability, standardised


def drawn(
    ratio: float, count: int = 6000, gap: float = 3.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) < ratio
    own = rng.normal(np.where(wrong, 0.0, gap))
    return own, rng.normal(size=4 * count), wrong


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.4, 0.8, 1.0])
def test_the_ratio_is_in_its_interval(ratio: float) -> None:
    own, random, wrong = drawn(ratio)
    found = estimate_ratio(own, random, np.arange(len(own)))
    assert found.low <= found.estimate <= found.high
    assert found.low - 0.01 <= wrong.mean() <= found.high + 0.01
    assert found.high - found.low < 0.15


def test_pairs_of_one_image_are_resampled_together() -> None:
    own, random, _ = drawn(0.4, 3000)
    alone = estimate_ratio(own, random, np.arange(3000))
    clustered = estimate_ratio(np.repeat(own[:300], 10), random, np.repeat(np.arange(300), 10))
    assert clustered.high - clustered.low > alone.high - alone.low


def test_probabilities_are_those_of_bayes() -> None:
    own, random, _ = drawn(0.3, 20000, 2.0)
    found = mismatch_probability(own, random, 0.3)
    exact = 0.3 * norm.pdf(own) / (0.3 * norm.pdf(own) + 0.7 * norm.pdf(own, 2.0))
    assert np.abs(found - exact).mean() < 0.03


def test_probabilities_never_rise_with_the_score() -> None:
    own, random, _ = drawn(0.3, 500)
    assert (np.diff(mismatch_probability(own, random, 0.3)[np.argsort(own)]) <= 0).all()


def test_scores_are_compared_with_random_pairs_of_their_fold() -> None:
    own, random = np.array([1.0, 10.0]), np.array([0.0, 2.0, 0.0, 20.0])
    found, others = standardised(own, random, np.array([0, 1]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [0, 0])
    np.testing.assert_allclose(others, [-1, 1, -1, 1])


def test_a_scorer_that_knows_nothing_gets_no_weight() -> None:
    own, random, _ = drawn(0.3)
    rng = np.random.default_rng(1)
    both = (np.column_stack([side, rng.normal(size=len(side))]) for side in (own, random))
    _, _, weights = combined(*both)
    assert weights[0] > 20 * weights[1] >= 0


def test_a_scorer_that_is_wrong_gets_no_weight() -> None:
    own, random, _ = drawn(0.3)
    together, _, weights = combined(np.column_stack([own, -own]), np.column_stack([random, -random]))
    assert weights[1] == 0
    assert np.corrcoef(together, own)[0, 1] == pytest.approx(1)
