"""Averages over networks, against the raw scores."""

from __future__ import annotations

import numpy as np
import pytest

from ncbench.evaluation.averaging import TRANSFORMS, average, evidence


def sigmoid(raw: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-raw)))


def test_evidence_of_raw_scores() -> None:
    raw = np.linspace(-12, 12, 240).reshape(3, -1)
    np.testing.assert_allclose(evidence(sigmoid(raw)), np.exp(np.tanh(raw) / 0.1), rtol=1e-9)


def test_evidence_of_an_example() -> None:
    raw = np.array([0.9, 0.2, -0.4, 0.1, 0.8])
    np.testing.assert_allclose(
        evidence(sigmoid(raw)), [1290.749972, 7.197640, 0.022382, 2.709272, 765.376372], rtol=1e-4
    )


def test_evidence_of_float32_scores_and_of_saturated_ones() -> None:
    raw = np.linspace(-6, 6, 121)
    stored = sigmoid(raw).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(evidence(stored), np.exp(10 * np.tanh(raw)), rtol=1e-5)
    np.testing.assert_allclose(evidence(np.array([0.0, 0.5, 1.0])), [np.exp(-10), 1, np.exp(10)], rtol=1e-12)


def test_mean_of_scores_is_taken_in_float64() -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.random((4, 6), np.float32) for _ in range(3)]
    found = average(iter(matrices))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.mean([matrix.astype(np.float64) for matrix in matrices], 0).astype("f4"))
    np.testing.assert_array_equal(average(matrices[:1]), matrices[0])


def test_mean_of_evidence_is_not_the_evidence_of_the_mean() -> None:
    raw = np.array([[[0.9, 0.2]], [[-0.4, 0.8]]])
    found = average(sigmoid(raw).astype(np.float32), TRANSFORMS["evidence"])
    np.testing.assert_allclose(found, np.exp(10 * np.tanh(raw)).mean(0), rtol=1e-5)
    assert abs(found[0, 0] - evidence(sigmoid(raw).mean(0))[0, 0]) > 100


def test_nothing_to_average() -> None:
    with pytest.raises(ValueError, match="no similarities to average"):
        average([])
