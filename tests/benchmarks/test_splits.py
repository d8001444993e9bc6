"""The table of how well methods tell clean from mismatched pairs over time."""

from __future__ import annotations

import pandas as pd
import pytest
from splits import first_and_last


def test_the_first_and_the_last_evaluation_that_state_beliefs() -> None:
    curves = pd.DataFrame(
        [
            ("a", 100, None, None),
            ("a", 300, 0.6, 0.2),
            ("a", 200, 0.5, 0.3),  # rows may come in any order
            ("a", 400, None, None),
            ("b", 100, None, None),
            ("c", 50, 0.9, 0.1),
        ],
        columns=["id", "work", "auc", "calibration_error"],
    )
    found = first_and_last(curves)
    assert list(found.index) == ["a", "c"]
    assert found.loc["a"].tolist() == pytest.approx([0.5, 0.5, 0.6, 0.2])
    assert found.loc["c"].tolist() == pytest.approx([0.9, 1.0, 0.9, 0.1])
