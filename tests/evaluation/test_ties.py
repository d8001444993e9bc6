"""Ties, against a loop over all captions and images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ncbench.data.data_warning import DataWarning
from ncbench.evaluation.ties import tied_captions, warn_if_tied


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    similarities = rng.integers(0, 40, (600, 30)).astype(np.float32)
    true = rng.integers(0, 600, 30)
    naive = sum(
        any(similarities[i, c] == similarities[true[c], c] for i in range(600) if i != true[c]) for c in range(30)
    )
    assert tied_captions(similarities[:, :], true) == naive == 30
    few = similarities + np.linspace(0, 0.5, 600, dtype=np.float32)[:, None]
    few[5, 3] = few[true[3], 3]
    few[true[8], 8] = few[(true[8] + 1) % 600, 8]
    assert tied_captions(few, true) == 2


def test_repeated_images_are_told() -> None:
    rng = np.random.default_rng(0)
    once = rng.normal(size=(20, 20)).astype(np.float32)
    true = np.arange(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_tied(tied_captions(once, true), len(true), "mine test")
    with pytest.warns(DataWarning, match="mine test: 100% of the captions score another image exactly as high"):
        warn_if_tied(tied_captions(np.repeat(once, 2, 0), true * 2), len(true), "mine test")
    once[0] = once[1]  # two of twenty captions tie: not more than a tenth
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_tied(tied_captions(once, true), len(true), "mine test")
