"""Scores of a run: retrieval from similarities, detection of mismatched pairs, quality of rematches.

Everything here is a pure function of arrays to a frozen dataclass that `dataclasses.asdict` makes ready for JSON; a
number that is not defined is None, never NaN.
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
    "FloatVector",
    "Ranks",
    "Recalls",
    "Reliability",
    "RematchQuality",
    "Retrieval",
    "Similarities",
    "detect",
    "evaluate",
    "rank",
    "rank_correlation",
    "ranks_i2t",
    "ranks_t2i",
    "reliability",
    "rematch_quality",
]
