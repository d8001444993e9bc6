"""Paired bootstrap over test queries and seeds: which methods of a comparison differ significantly.

A query is an image or a caption. Its score is the number of cut-offs (1, 5, 10) within which its match is ranked, so
that rSum is the mean score of images plus the mean score of captions, in percent. A resample draws queries and seeds
with replacement, the same for both methods of a pair, because a hard query or seed is hard for both (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.evaluation.retrieval import Ranks
from ncbench.runtime.seeds import derive_rng

RESAMPLES = 2000
CONFIDENCE = 0.95
RECALL_DEPTHS = (1, 5, 10)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The rSum of one method minus that of another, over the `seeds` that both have, and its confidence interval."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def reversed(self) -> Difference:
        """The difference the other way round."""
        return Difference(-self.mean, -self.high, -self.low, self.seeds)


class Bootstrap:
    """Resampled rSum of methods under the same data and noise. `ranks` are by method and seed."""

    def __init__(self, ranks: Mapping[str, Mapping[int, Ranks]], resamples: int = RESAMPLES) -> None:
        self.ranks, self.resamples = ranks, resamples
        self._means: dict[tuple[str, int], float] = {}
        self._samples: dict[tuple[str, tuple[int, ...]], Floats] = {}
        self._found: dict[tuple[str, str], Difference | None] = {}

    def difference(self, one: str, other: str) -> Difference | None:
        """Return how much better `one` is than `other`, paired by seed and query; None without a common seed."""
        if (other, one) in self._found:
            found = self._found[other, one]
            return found and found.reversed
        if (one, other) not in self._found:
            self._found[one, other] = self._difference(one, other)
        return self._found[one, other]

    def _difference(self, one: str, other: str) -> Difference | None:
        seeds = tuple(sorted(set(self.ranks[one]) & set(self.ranks[other])))
        if not seeds:
            return None
        resampled = self._rsums(one, seeds) - self._rsums(other, seeds)
        low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        mean = sum(self._means[one, seed] - self._means[other, seed] for seed in seeds) / len(seeds)
        return Difference(mean, float(low), float(high), len(seeds))

    def differ(self, one: str, other: str) -> bool:
        """Return whether the confidence interval of the rSum difference excludes 0, over the seeds that both have."""
        found = self.difference(one, other)
        return found is not None and found.significant

    def places(self, rsums: Mapping[str, float]) -> dict[str, tuple[int, int]]:
        """Return the first and the last place that each method may have, by mean rSum.

        The first is 1 plus the number of methods that are significantly better, the last is the number of all methods
        less those that are significantly worse.
        """
        return {
            name: (
                1 + sum(rsums[other] > rsum and self.differ(name, other) for other in rsums),
                len(rsums) - sum(rsums[other] < rsum and self.differ(name, other) for other in rsums),
            )
            for name, rsum in rsums.items()
        }

    def _rsums(self, name: str, seeds: tuple[int, ...]) -> Floats:
        """Return the rSum of each resample, (resamples,)."""
        if (name, seeds) not in self._samples:
            both = [[scores(getattr(self.ranks[name][seed], side)) for seed in seeds] for side in ("i2t", "t2i")]
            for seed, images, captions in zip(seeds, *both, strict=True):
                self._means[name, seed] = 100 * float(images.mean() + captions.mean())
            sides = [self._resampled(values, side) for side, values in zip(("i2t", "t2i"), both, strict=True)]
            self._samples[name, seeds] = 100 * (sides[0] + sides[1])
        return self._samples[name, seeds]

    def _resampled(self, values: Sequence[Floats], side: str) -> Floats:
        """Return the mean of `values` (seeds, queries) in each resample, (resamples,)."""
        table = np.stack(values)
        over_seeds = _draws("seeds", len(table), self.resamples)
        over_queries = _draws(side, table.shape[1], self.resamples)
        means: Floats = ((over_seeds @ table) * over_queries).sum(1)
        return means


@lru_cache(maxsize=4)  # comparisons of a board have as many queries; those of 5,000 captions take 80 MB
def _draws(what: str, count: int, resamples: int) -> Floats:
    """Return weights (resamples, count) of drawing `count` items with replacement, the same for all methods."""
    drawn: Floats = (
        derive_rng(0, "bootstrap", what, count).multinomial(count, np.full(count, 1 / count), resamples) / count
    )
    return drawn


def scores(folds: Sequence[IntVector]) -> Floats:
    """Return in how many of the top 1, 5 and 10 each query has its match, (queries,). Folds have equal weight."""
    each = sum(map(len, folds)) / len(folds)
    return np.concatenate([(fold[:, None] < np.array(RECALL_DEPTHS)).sum(1) * (each / len(fold)) for fold in folds])
