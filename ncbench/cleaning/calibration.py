"""From scores to P(mismatched), and the estimated share of mismatched pairs.

Random pairs are examples of mismatched ones. With f the density of the scores of the given pairs, g that of random
pairs and r the share of mismatched pairs, f = r g + (1 - r) h, and P(mismatched) at a score is r g / f: the local false
discovery rate (Efron et al., JASA 2001). The ratio g / f follows from an isotonic regression, as a higher score never
makes a pair more likely to be mismatched. r is estimated where right pairs are rarest, at low scores: the share of the
given pairs below a score over that of random pairs (Storey, JRSS B 2002), at the score with the least expected error
(Storey, Taylor and Siegmund, JRSS B 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.runtime.seeds import derive_rng

Floats = NDArray[np.float64]

RESAMPLES = 400
CONFIDENCE = 0.95
LEVELS = np.concatenate([np.arange(0.01, 0.1, 0.01), np.arange(0.1, 0.51, 0.05)])
"""Shares of random pairs below the scores at which r is tried."""

MIN_OWNERS_BELOW = 60
"""Images whose pairs would be below such a score if all were random; fewer say too little about r."""


@dataclass(frozen=True)
class Ratio:
    """The estimated share of mismatched pairs, in [0, 1], and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float


def estimate_ratio(own: Floats, null: Floats, owners: IntVector) -> Ratio:
    """Return the estimated share of mismatched pairs, from scores `own` (n,) and those of random pairs, `null`.

    Pairs are resampled together with all others of the same owner, an image: `owners` (n,). The estimate is too high
    if right pairs are among the lowest scores, and too low if mismatched pairs fit better than random ones.
    """
    _, owner = np.unique(owners, return_inverse=True)
    n_owners = int(owner.max()) + 1
    cuts = np.quantile(null, LEVELS[LEVELS * n_owners >= MIN_OWNERS_BELOW] if n_owners > 2 * MIN_OWNERS_BELOW else 0.5)
    cuts = np.atleast_1d(cuts)
    below = np.searchsorted(cuts, own, side="left")  # the first cut that a score is not above
    random_below = np.searchsorted(np.sort(null), cuts, side="right") / len(null)
    rng = derive_rng(0, "cleaning", "ratio")
    shares = np.empty((RESAMPLES, len(cuts)))
    for row in shares:
        weights = rng.poisson(1.0, n_owners)[owner]
        counts = np.bincount(below, weights, len(cuts) + 1)[: len(cuts)]
        row[:] = np.cumsum(counts) / max(1, weights.sum()) / random_below
    spread = shares.std(0)
    resampled = shares[np.arange(RESAMPLES), _best_level(shares, spread)]
    plain = np.cumsum(np.bincount(below, minlength=len(cuts) + 1)[: len(cuts)]) / len(own) / random_below
    (best,) = _best_level(plain[None], spread)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    estimate, low, high = (float(np.clip(value, 0, 1)) for value in (plain[best], low, high))
    return Ratio(estimate, min(low, estimate), max(high, estimate))


def _best_level(shares: Floats, spread: Floats) -> IntVector:
    """Return the level of least expected squared error for each row of `shares` (n, levels).

    The bias of a level is the least by which it is above any other, within their standard errors `spread` (levels,).
    """
    least = (shares + spread).min(1, keepdims=True)
    errors = spread**2 + np.maximum(0, shares - least) ** 2
    return np.asarray(np.argmin(errors, axis=1))


def mismatch_probability(own: Floats, null: Floats, ratio: float) -> Floats:
    """Return P(mismatched) (n,) of pairs with scores `own`, given the scores of random pairs and the share `ratio`."""
    from sklearn.isotonic import IsotonicRegression  # here, as it loads slowly

    scores = np.concatenate([own, null])
    given = np.repeat([1.0, 0.0], [len(own), len(null)])
    weights = np.repeat([1 / len(own), 1 / len(null)], [len(own), len(null)])
    share = IsotonicRegression(out_of_bounds="clip").fit(scores, given, weights).predict(own)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(ratio * (1 - share) / share, 0, 1))


def standardised(own: Floats, null: Floats, own_folds: IntVector, null_folds: IntVector) -> tuple[Floats, Floats]:
    """Return scores in standard deviations above the mean score of random pairs, fold by fold."""
    own, null = own.astype(np.float64), null.astype(np.float64)
    for fold in np.unique(own_folds):
        mine = null_folds == fold
        mean, std = null[mine].mean(), null[mine].std() or 1.0
        own[own_folds == fold] = (own[own_folds == fold] - mean) / std
        null[mine] = (null[mine] - mean) / std
    return own, null


def combined(own: Floats, null: Floats) -> tuple[Floats, Floats, Floats]:
    """Return one score from several, columns of `own` (n, S) and `null` (m, S), and the weights (S,), at least 0.

    The weights are those of a logistic regression that tells the given pairs from random ones; a scorer that cannot
    gets 0.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.vstack([own, null])
    given = np.repeat([1, 0], [len(own), len(null)])
    weights, used = np.zeros(own.shape[1]), np.arange(own.shape[1])
    while len(used):
        fitted = LogisticRegression(class_weight="balanced").fit(values[:, used], given)
        if (fitted.coef_[0] > 0).all():
            weights[used] = fitted.coef_[0]
            break
        used = used[fitted.coef_[0] > 0]
    return own @ weights, null @ weights, weights
