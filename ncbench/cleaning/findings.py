"""What scorers find out about pairs: scores, P(mismatched), and the share of mismatched pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from ncbench.cleaning.calibration import (
    Floats,
    Ratio,
    combined,
    estimate_ratio,
    mismatch_probability,
    standardised,
)
from ncbench.cleaning.pairs import Pairs
from ncbench.cleaning.scorers.base import Scorer
from ncbench.data.dataset import IntVector
from ncbench.errors import UserError
from ncbench.runtime.seeds import derive_rng

MAX_RANDOM = 400_000
"""Random pairs to compare the given pairs with, about; at least one for each given pair."""

MIN_SEPARATION = 0.55
"""A scorer that tells given pairs from random ones no better than this AUC has learned nothing about them."""


@dataclass(frozen=True)
class Opinion:
    """What one scorer, or all together, say of n pairs.

    `scores` (n,) are in standard deviations above the mean of random pairs. `p_mismatched` (n,) is in [0, 1]. `ratio`
    is the estimated share of mismatched pairs, `separation` the probability that a given pair scores above a random
    one. `weight` is the share of the scorer in what all say together.
    """

    scores: Floats
    p_mismatched: Floats
    ratio: Ratio
    separation: float
    weight: float = 1.0


@dataclass(frozen=True)
class Findings:
    """The opinion of all scorers together, and of each by name."""

    together: Opinion
    each: Mapping[str, Opinion]

    @property
    def order(self) -> IntVector:
        """The pairs, the most likely mismatched first; ties by score, then by number."""
        return np.lexsort((self.together.scores, -self.together.p_mismatched))

    def agreement(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return the rank correlation of the scores of each two scorers, and how often they agree on P >= 0.5."""
        names, found = list(self.each), {}
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                first, second = self.each[one], self.each[other]
                same = (first.p_mismatched >= 0.5) == (second.p_mismatched >= 0.5)
                found[one, other] = float(spearmanr(first.scores, second.scores)[0]), float(same.mean())
        return found


@dataclass(frozen=True)
class Scored:
    """The scores of a scorer: those of all pairs (n,) and of random pairs (m,), with the folds of the latter."""

    own: Floats
    random: Floats
    random_folds: IntVector


def score(pairs: Pairs, scorer: Scorer, on_progress: Callable[[float], None] = lambda _: None) -> Scored:
    """Return the scores of all `pairs`, and of the same random pairs for every scorer."""
    each = max(1, MAX_RANDOM // len(pairs))
    rng = derive_rng(pairs.seed, "cleaning", "random pairs")
    own, random, folds = np.empty(len(pairs)), [], []
    for number, block in enumerate(pairs.blocks):
        found, images = scorer.block(block), pairs.claimed[block]
        own[block] = np.diag(found)
        rows, columns = np.nonzero(images[:, None] != images)
        chosen = rng.permutation(len(rows))[: each * len(block)]
        random.append(found[rows[chosen], columns[chosen]])
        folds.append(np.full(len(chosen), pairs.folds[block[0]]))
        on_progress((number + 1) / len(pairs.blocks))
    return Scored(own, np.concatenate(random).astype(np.float64), np.concatenate(folds))


def judge(pairs: Pairs, scored: Mapping[str, Scored]) -> Findings:
    """Return what scorers, by name, find out about `pairs`. Raises UserError if none tells them from random pairs."""
    names = list(scored)
    both = [standardised(one.own, one.random, pairs.folds, one.random_folds) for one in scored.values()]
    own, random = (np.column_stack(side) for side in zip(*both, strict=True))
    separations = [_separation(own[:, n], random[:, n]) for n in range(len(names))]
    useful = [n for n, found in enumerate(separations) if found >= MIN_SEPARATION]
    if not useful:
        told = ", ".join(f"{name} {found:.2f}" for name, found in zip(names, separations, strict=True))
        raise UserError(
            f"the pairs look no different from random pairs (AUC: {told}); either nearly all are mismatched, or the "
            "vectors say too little; check that rows of images and captions belong together, or use a stronger model"
        )
    weights = np.zeros(len(names))
    together, together_random, weights[useful] = combined(own[:, useful], random[:, useful])
    shares = weights / weights.sum()
    each = {
        name: _opinion(own[:, n], random[:, n], pairs.claimed, separations[n], float(shares[n]))
        for n, name in enumerate(names)
    }
    alone = [n for n in useful if shares[n] == 1]
    if alone:
        return Findings(each[names[alone[0]]], each)
    separation = _separation(together, together_random)
    return Findings(_opinion(together, together_random, pairs.claimed, separation), each)


def _opinion(own: Floats, random: Floats, owners: IntVector, separation: float, weight: float = 1.0) -> Opinion:
    ratio = estimate_ratio(own, random, owners)
    return Opinion(own, mismatch_probability(own, random, ratio.estimate), ratio, separation, weight)


def _separation(own: Floats, random: Floats) -> float:
    """Return the probability that a score of `own` is above one of `random`; ties count half."""
    ordered = np.sort(random)
    below, up_to = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    return float((below + up_to).mean() / 2 / len(random))


def names_in_words(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
