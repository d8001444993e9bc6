"""Better partners: other images that fit the captions of mismatched pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncbench.cleaning.pairs import READ_ROWS, Pairs
from ncbench.cleaning.scorers.base import VectorScorer
from ncbench.data.dataset import FloatArray, IntVector
from ncbench.noise.base import BoolVector
from ncbench.runtime.seeds import derive_rng

MAX_COMPARISONS = 4 * 10**9
"""Captions times images that are compared; of more pairs only the worst are looked up."""

TESTED = 2_000
"""Kept pairs on which the proposals are tested."""

MIN_HIT_RATE, MIN_TESTED = 0.5, 10
"""A proposal needs a score above which at least MIN_TESTED kept captions find an image, in MIN_HIT_RATE their own."""

NO_PARTNER = -1


@dataclass(frozen=True)
class Partners:
    """Proposals for n pairs.

    `pair` (n,) is a pair with an image that fits the caption better, NO_PARTNER without one; `looked_up` is the number
    of pairs for which one was sought. `hit_rate` is how far to trust the proposals: the share of kept captions, of
    those that find an image with such a score, that find their own. It is 0 if there are no proposals.
    """

    pair: IntVector
    looked_up: int
    hit_rate: float


def propose(pairs: Pairs, scorer: VectorScorer, suspects: IntVector, trusted: IntVector) -> Partners:
    """Return proposals for `suspects`, the worst first, among the images of all pairs; they are tested on `trusted`.

    A caption has no better image than the proposal.
    """
    _, first = np.unique(pairs.claimed, return_index=True)
    suspects = suspects[: MAX_COMPARISONS // len(first)]
    tested = derive_rng(pairs.seed, "cleaning", "tested").permutation(trusted)[:TESTED]
    best, scores = _best_of_all(pairs, scorer, np.concatenate([tested, suspects]), first)
    n_tested, hits = len(tested), pairs.claimed[best[: len(tested)]] == pairs.claimed[tested]
    least, hit_rate = _least_score(scores[:n_tested], hits)
    best, scores = best[n_tested:], scores[n_tested:]
    good = (scores >= least) & (pairs.claimed[best] != pairs.claimed[suspects])
    proposed = np.full(len(pairs), NO_PARTNER)
    proposed[suspects[good]] = best[good]
    return Partners(proposed, len(suspects), hit_rate)


def _least_score(scores: FloatArray, hits: BoolVector) -> tuple[float, float]:
    """Return the lowest score above which enough searches are hits, and their share; infinity if there is none."""
    order = np.argsort(-scores, kind="stable")
    rates = np.cumsum(hits[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(rates >= MIN_HIT_RATE)
    if not len(enough) or enough[-1] + 1 < MIN_TESTED:
        return np.inf, 0.0
    return float(scores[order[enough[-1]]]), float(rates[enough[-1]])


def _best_of_all(
    pairs: Pairs, scorer: VectorScorer, asked: IntVector, candidates: IntVector
) -> tuple[IntVector, FloatArray]:
    """Return what `_best` returns, for captions of all folds."""
    best, scores = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.float32)
    for fold in range(pairs.n_folds):
        mine = pairs.folds[asked] == fold
        best[mine], scores[mine] = _best(pairs, scorer, asked[mine], candidates, fold)
    return best, scores


def _best(
    pairs: Pairs, scorer: VectorScorer, asked: IntVector, candidates: IntVector, fold: int
) -> tuple[IntVector, FloatArray]:
    """Return, for the captions of `asked`, the pair of `candidates` whose image fits best, and its score."""
    best, scores = np.zeros(len(asked), np.int64), np.full(len(asked), -np.inf, np.float32)
    captions = [
        scorer.caption_vectors(asked[start : start + READ_ROWS], fold) for start in range(0, len(asked), READ_ROWS)
    ]
    for start in range(0, len(candidates), READ_ROWS):
        some = candidates[start : start + READ_ROWS]
        images = scorer.image_vectors(some, fold)
        for number, part in enumerate(captions):
            rows = slice(number * READ_ROWS, number * READ_ROWS + len(part))
            alike = part @ images.T
            top = alike.argmax(1)
            value = alike[np.arange(len(part)), top]
            better = value > scores[rows]
            scores[rows] = np.where(better, value, scores[rows])
            best[rows] = np.where(better, some[top], best[rows])
    return best, scores
