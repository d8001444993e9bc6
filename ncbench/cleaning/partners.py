"""Better partners: other images that fit the captions of mismatched pairs as well as right ones fit theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncbench.cleaning.pairs import READ_ROWS, Pairs
from ncbench.cleaning.scorers.base import VectorScorer
from ncbench.data.dataset import FloatArray, IntVector
from ncbench.runtime.seeds import derive_rng

MAX_COMPARISONS = 4 * 10**9
"""Captions times images that are compared; of more pairs only the worst are looked up."""

TESTED = 2_000
"""Kept pairs on which the proposals are tested."""

LOWEST_SHARE = 0.1
"""Kept pairs with lower scores are no measure of a right pair."""

NO_PARTNER = -1


@dataclass(frozen=True)
class Partners:
    """Proposals for n pairs.

    `pair` (n,) is a pair with an image that fits the caption better, NO_PARTNER without one; `looked_up` is the number
    of pairs for which one was sought. `hit_rate` is the share of kept pairs, of a sample, whose own image is found for
    their caption: how far to trust the proposals.
    """

    pair: IntVector
    looked_up: int
    hit_rate: float


def propose(pairs: Pairs, scorer: VectorScorer, suspects: IntVector, trusted: IntVector) -> Partners:
    """Return proposals for `suspects`, the worst first, among the images of all pairs.

    A proposal scores above the lowest LOWEST_SHARE of the `trusted` pairs, and the caption has no better image.
    """
    _, first = np.unique(pairs.claimed, return_index=True)
    suspects = suspects[: MAX_COMPARISONS // len(first)]
    proposed = np.full(len(pairs), NO_PARTNER)
    if not len(trusted):
        return Partners(proposed, 0, 0.0)
    tested = derive_rng(pairs.seed, "cleaning", "tested").permutation(trusted)[:TESTED]
    hits = 0
    for fold in range(pairs.n_folds):
        known, asked = (some[pairs.folds[some] == fold] for some in (tested, suspects))
        if not len(known):
            continue
        best, _ = _best(pairs, scorer, known, first, fold)
        hits += int((pairs.claimed[best] == pairs.claimed[known]).sum())
        usual = np.quantile(_own(scorer, known, fold), LOWEST_SHARE)
        best, scores = _best(pairs, scorer, asked, first, fold)
        good = (scores >= usual) & (pairs.claimed[best] != pairs.claimed[asked])
        proposed[asked[good]] = best[good]
    return Partners(proposed, len(suspects), hits / len(tested))


def _own(scorer: VectorScorer, pairs: IntVector, fold: int) -> FloatArray:
    return np.asarray((scorer.image_vectors(pairs, fold) * scorer.caption_vectors(pairs, fold)).sum(1))


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
