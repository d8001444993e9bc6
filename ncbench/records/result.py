"""`result.json`: what a run achieved, what it spent, and how good the method's beliefs were.

On a CPU, the same spec gives the same bytes. Attributes have the names of the keys in the file, unless a field says
otherwise. Fields with a default are missing in results of older versions; the default is what such a result means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, field

from ncbench.evaluation.beliefs import Count, Detection, RematchQuality, Share
from ncbench.evaluation.fitting import FittingRetrieval, FittingScores
from ncbench.evaluation.retrieval import Recalls, Retrieval
from ncbench.records.checked import checked
from ncbench.records.spec import SCHEMA, RunSpec

RecallSum: TypeAlias = Annotated[float, Meta(ge=0, le=600)]
Correlation: TypeAlias = Annotated[float, Meta(ge=-1 - 1e-9, le=1 + 1e-9)]

MAX_WORK = 10**30
"""FLOPs. Python's integers have no bound, but ratios of larger ones may not be floats."""


class Scores(msgspec.Struct, frozen=True):
    """Retrieval in both directions, in percent and ranks, and the sum of the six recalls."""

    i2t: Recalls
    t2i: Recalls
    rsum: RecallSum

    @classmethod
    def of(cls, found: Retrieval) -> Scores:
        """Return the scores of a retrieval."""
        return cls(found.i2t, found.t2i, found.rsum)


class Fitting(msgspec.Struct, frozen=True):
    """Retrieval of all that fits in both directions, among so many fitting `pairs` of the whole test split."""

    pairs: Count
    i2t: FittingScores
    t2i: FittingScores

    @classmethod
    def of(cls, pairs: int, found: FittingRetrieval) -> Fitting:
        """Return the scores of a retrieval."""
        return cls(pairs, found.i2t, found.t2i)

    @property
    def retrieval(self) -> FittingRetrieval:
        """The scores without the number of pairs."""
        return FittingRetrieval(self.i2t, self.t2i)


class Metrics(msgspec.Struct, frozen=True, omit_defaults=True):
    """Scores on the test split.

    Where a dataset is scored in folds, `test` is the mean over folds and `test_unfolded` the score of the whole split.
    `fitting` is None where it is not known which captions fit which images, and in older records.
    """

    test: Scores
    test_unfolded: Scores | None = None
    fitting: Fitting | None = None

    def by_name(self) -> dict[str, Scores]:
        """Return the scores of annotated pairs by their keys in the file."""
        named = {"test": self.test, "test_unfolded": self.test_unfolded}
        return {name: scores for name, scores in named.items() if scores is not None}


class Selection(msgspec.Struct, frozen=True):
    """The evaluation whose weights were kept: its dev rSum, and the share of the budget spent by then."""

    dev_rsum: float
    share: Share


class Selected(Selection, frozen=True, omit_defaults=True):
    """The selection of a run; of an ensemble, also that of each member, by backbone."""

    members: dict[str, Selection] = {}


class WorkSpent(msgspec.Struct, frozen=True, kw_only=True):
    """Training work. `budget`, `baseline_epoch` and `used` are FLOPs.

    `budget` is None for budgets that do not bound FLOPs. `used` is 0 where nobody told the FLOPs of a self-reported
    run. `pair_passes` counts similarities of an image and a caption
    that any network computed, `samples` captions that were encoded with gradients.
    """

    budget: Count | None
    used: Count
    updates: Count
    baseline_epoch: Annotated[int, Meta(gt=0)] | None = None
    pair_passes: Count | None = None
    samples: Count | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if (getattr(self, name) or 0) > MAX_WORK:
                raise ValueError(f"`{name}` must be at most {MAX_WORK:.0e}")


@dataclass(frozen=True)
class LabelDetection(Detection):
    """How well soft labels find mismatched pairs.

    `closeness_correlation` is the rank correlation of the labels of mismatched pairs with how close these are in
    meaning; None where that is not known.
    """

    closeness_correlation: Correlation | None = None


@dataclass(frozen=True, kw_only=True)
class RecordedRematches(RematchQuality):
    """Quality of rematches."""

    chance: Share | None = None


class Judgement(msgspec.Struct, frozen=True, omit_defaults=True):
    """How good beliefs about training pairs were; None for what the method did not state or cannot be judged."""

    detection: Detection | None = None
    soft_labels: LabelDetection | None = None
    rematches: RecordedRematches | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a finished run.

    `sees_truth` says whether the method knew which pairs are clean, `clean_pairs_given` how many clean pairs it was
    given. `mismatched` is the share of mismatched training pairs; None where the ground truth is unknown.
    """

    id: str
    spec: RunSpec
    metrics: Metrics
    selected: Selected
    work: WorkSpent
    beliefs: Judgement
    mismatched: Share | None
    status: str = "done"
    vocabulary_digest: str | None = None
    sees_truth: bool = field(default=False, name="told_truth")
    clean_pairs_given: Count = field(default=0, name="told_clean")
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not self.baseline_epoch and not self.spec.budget.self_reported:
            raise ValueError("`work` has neither `baseline_epoch` nor `budget`")

    @property
    def baseline_epochs(self) -> float | None:
        """Training work in baseline epochs; None for self-reported runs."""
        return None if self.spec.budget.self_reported else self.work.used / self.baseline_epoch

    @property
    def baseline_epoch(self) -> float:
        """FLOPs of one baseline epoch. Older results do not state it; their budgets are in baseline epochs."""
        return self.work.baseline_epoch or (self.work.budget or 0) / self.spec.budget.amount

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Result:
        """Return the result in the content of `result.json`. Raises ValueError for other content."""
        spec = content.get("spec")
        if not isinstance(spec, Mapping):
            raise ValueError(f"spec: expected `object`, got {spec!r}")
        try:
            found = RunSpec.from_dict(spec)
        except ValueError as error:
            raise ValueError(f"spec.{error}") from error
        result: Result = checked({**content, "spec": found}, cls)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        return {**msgspec.to_builtins(self), "spec": self.spec.to_dict()}
