"""The split of NCR, and what it believes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from set_up import set_up_ncr

from ncbench import Task
from ncbench_methods._coteaching import split

MakeTask = Callable[..., Task]

FOUND = np.array([0, 0.03, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.45, 0.55, 0.62, 0.70, 0.80, 1])


def test_worked_example_of_the_mixture(make_task: MakeTask) -> None:
    found = set_up_ncr(make_task())._posterior(FOUND)
    assert found.dtype == np.float64
    assert found[[6, 7, 8]].tolist() == pytest.approx([0.993781, 0.965499, 0.000002], abs=2e-6)


def test_pairs_above_a_probability_are_clean() -> None:
    p_clean = np.array([0.9, 0.5, 0.51, 0.0])
    assert split(p_clean, 0.5).tolist() == [True, False, True, False]
    assert split(p_clean, 0.6).tolist() == [True, False, False, False]


@pytest.mark.parametrize(("count", "n_noisy"), [(48, 1), (99, 1), (100, 2), (250, 3)])
def test_one_per_cent_is_noisy_where_all_look_clean(count: int, n_noisy: int) -> None:
    p_clean = 0.6 + 0.4 * np.random.default_rng(0).permutation(count) / count
    clean = split(p_clean, 0.5)
    assert (~clean).sum() == n_noisy
    assert p_clean[~clean].max() < p_clean[clean].min()
    assert (~split(np.ones(count), 0.5)).sum() == n_noisy  # ties do not take each other along
