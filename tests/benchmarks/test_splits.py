"""The table of how well methods tell clean from mismatched pairs over time."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from splits import clean_among_kept, first_and_last

from ncbench.evaluation.beliefs import detect


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


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.9]), st.booleans()), min_size=1, max_size=40))
def test_the_clean_pairs_among_those_that_are_kept(pairs: list[tuple[float, bool]]) -> None:
    p_clean, clean = np.array([p for p, _ in pairs]), np.array([is_clean for _, is_clean in pairs])
    kept = p_clean >= 0.5
    found = clean_among_kept(detect(p_clean, clean))
    if not kept.any() or (not kept.all() and clean[~kept].all()):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(clean[kept].mean())
