"""Run records made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ncbench.evaluation.retrieval import Recalls
from ncbench.records.result import Judgement, Metrics, Result, Scores, Selected, WorkSpent
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.runtime.files import write_json

DETECTION = {"auc": 0.5, "precision": 0.5, "recall": 0.5, "calibration_error": 0.1, "mismatched": 4, "pairs": 10}
REMATCHES = {"count": 3, "closer": 0.5, "rematched_closeness": 0.5, "claimed_closeness": 0.5}
BELIEFS: Mapping[str, Mapping[str, Any]] = {
    "detection": DETECTION,
    "soft_labels": DETECTION,
    "rematches": REMATCHES,
}
FITTING = ("map_at_r", "r_precision", "r1", "forgiven")
DEFAULTS: Mapping[str, Any] = {
    "dataset": "toy",
    "dataset_version": "1",
    "dataset_digest": "d" * 64,
    "protocol": "shuffle-images",
    "protocol_version": "1",
    "unit": "images",
    "noise": 0.4,
    "noise_digest": "n" * 64,
    "method": "triplet",
    "settings": {"lr": 0.002, "batch_size": 8},
    "backbone": "sgr",
    "sizes": {"embed": 16},
    "budget": 4.0,
    "evaluations": 4,
    "seed": 0,
}


def made_result(
    spec: RunSpec, scores: Sequence[float] = (10.0, 20.0, 30.0, 11.0, 21.0, 31.0), used: float = 0.5
) -> Result:
    """Return a result with these recalls: i2t R@1, R@5, R@10, then t2i. It used that share of its budget."""
    test = Scores(Recalls(*scores[:3], 3.0, 4.5), Recalls(*scores[3:], 3.0, 4.5), sum(scores))
    return Result(
        id=spec.id,
        spec=spec,
        metrics=Metrics(test),
        selected=Selected(sum(scores) + 1, 1.0),
        work=WorkSpent(budget=1000, used=round(1000 * used), updates=12),
        beliefs=Judgement(),
        mismatched=spec.noise,
    )


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a finished run into tmp_path and returns its folder.

    Scores: i2t R@1, R@5, R@10, then t2i; `rsum` is their sum. `told_truth` and `told_clean` None make a record of old,
    which does not say whether the method was. `fitting` are mAP@R, R-precision, R@1 of all that fits and the share of
    forgiven first hits, i2t then t2i. Other words are fields of the RunSpec.
    """

    def write(
        *scores: float,
        seconds: float | None = 30.0,
        peaks: Mapping[str, int | None] | None = None,
        beliefs: Mapping[str, Any] | None = None,
        used: float = 0.5,
        told_truth: bool | None = False,
        told_clean: int | None = None,
        outside: Mapping[str, float] | None = None,
        fitting: Sequence[float] | None = None,
        **axes: Any,
    ) -> Path:
        spec = RunSpec.from_dict({**DEFAULTS, **axes})
        scores = scores or (10.0, 20.0, 30.0, 11.0, 21.0, 31.0)
        folder = Store(tmp_path).start(spec)
        if seconds is not None:
            measurements = {"schema": 1, "seconds": {"training": seconds, "evaluation": 1.0}}
            if outside is not None:
                measurements["outside"] = outside
            write_json(folder / "measurements.json", {**measurements, "peak_bytes": peaks or {"host": 2**20}})
        result = made_result(spec, scores, used).to_dict()
        if fitting is not None:
            sides = {"i2t": fitting[:4], "t2i": fitting[4:]}
            found = {side: dict(zip(FITTING, values, strict=True)) for side, values in sides.items()}
            result["metrics"]["fitting"] = {"pairs": 20, **found}
        judged = {name: given and {**BELIEFS[name], **given} for name, given in (beliefs or {}).items()}
        result |= {"beliefs": judged, "told_truth": told_truth, "told_clean": told_clean}
        for name in [name for name in ("told_truth", "told_clean") if result[name] is None]:
            del result[name]
        write_json(folder / "result.json", result)
        return folder

    return write
