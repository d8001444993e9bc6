"""The table of how variants differ from the preset."""

from __future__ import annotations

import pandas as pd
import pytest
from differences import differences


def test_differences_are_taken_seed_by_seed() -> None:
    rows = [
        ("l2rm", 0.4, 0, 500.0),
        ("l2rm", 0.4, 1, 510.0),
        ("l2rm (mass=1.0)", 0.4, 1, 511.0),  # rows may come in any order
        ("l2rm (mass=1.0)", 0.4, 0, 503.0),
        ("l2rm", 0.8, 0, 400.0),
        ("l2rm (mass=1.0)", 0.8, 0, 390.0),
    ]
    frame = pd.DataFrame(rows, columns=["variant", "noise", "seed", "rsum"]).assign(method="l2rm")
    found = differences(frame)
    assert found.loc["l2rm (mass=1.0)", 0.4].to_dict() == pytest.approx(
        {"mean": 507.0, "difference": 2.0, "std": 2**0.5}
    )
    assert found.loc["l2rm", 0.4].to_dict() == pytest.approx({"mean": 505.0, "difference": 0.0, "std": 0.0})
    assert found.loc["l2rm (mass=1.0)", (0.8, "difference")] == -10
