"""Metrics of a run: retrieval of annotated and of all fitting items, detection of mismatched pairs, rematches.

The metrics are pure functions from arrays to frozen dataclasses. `dataclasses.asdict` makes them ready for JSON:
undefined numbers are None, never NaN.
"""

from ncbench.evaluation.beliefs import (
    Beliefs,
    Closeness,
    Detection,
    Reliability,
    RematchQuality,
    detect,
    rank_correlation,
    reliability,
    rematch_quality,
)
from ncbench.evaluation.fitting import (
    FittingRanks,
    FittingRetrieval,
    FittingScores,
    evaluate_fitting,
    rank_fitting,
)
from ncbench.evaluation.retrieval import (
    FloatVector,
    Ranks,
    Recalls,
    Retrieval,
    Similarities,
    evaluate,
    rank,
    ranks_i2t,
    ranks_t2i,
)

__all__ = [
    "Beliefs",
    "Closeness",
    "Detection",
    "FittingRanks",
    "FittingRetrieval",
    "FittingScores",
    "FloatVector",
    "Ranks",
    "Recalls",
    "Reliability",
    "RematchQuality",
    "Retrieval",
    "Similarities",
    "detect",
    "evaluate",
    "evaluate_fitting",
    "rank",
    "rank_correlation",
    "rank_fitting",
    "ranks_i2t",
    "ranks_t2i",
    "reliability",
    "rematch_quality",
]
