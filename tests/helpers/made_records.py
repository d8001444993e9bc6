"""Run records made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.runtime.files import write_json

KEYS = ("r1", "r5", "r10", "medr", "meanr")
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


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a finished run into tmp_path and returns its folder.

    Scores: i2t R@1, R@5, R@10, then t2i; `rsum` is their sum. `told_truth` and `told_clean` None make a record of old,
    which does not say whether the method was. Other words are fields of the RunSpec.
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
        **axes: Any,
    ) -> Path:
        spec = RunSpec.from_dict({**DEFAULTS, **axes})
        scores = scores or (10.0, 20.0, 30.0, 11.0, 21.0, 31.0)
        i2t, t2i = (dict(zip(KEYS, (*values, 3.0, 4.5), strict=True)) for values in (scores[:3], scores[3:]))
        folder = Store(tmp_path).start(spec)
        if seconds is not None:
            measurements = {"schema": 1, "seconds": {"training": seconds, "evaluation": 1.0}}
            if outside is not None:
                measurements["outside"] = outside
            write_json(folder / "measurements.json", {**measurements, "peak_bytes": peaks or {"host": 2**20}})
        result = {
            "schema": 1,
            "id": spec.id,
            "spec": spec.to_dict(),
            "status": "done",
            "metrics": {"test": {"i2t": i2t, "t2i": t2i, "rsum": sum(scores)}},
            "selected": {"dev_rsum": sum(scores) + 1, "share": 1.0},
            "work": {"budget": 1000, "used": round(1000 * used), "updates": 12},
            "mismatched": spec.noise,
            "beliefs": beliefs or {},
        }
        if told_truth is not None:
            result["told_truth"] = told_truth
        if told_clean is not None:
            result["told_clean"] = told_clean
        write_json(folder / "result.json", result)
        return folder

    return write
