"""Derived seeds: stable values, different for each use."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ncbench.runtime.seeds import derive_rng, derive_seed

GOLDEN = {
    (0,): 3456079177858693020,
    (1, "noise"): 8853247848273371138,
    (7, "method", "l2rm"): 7054493890334379130,
    (-3, "a", 2): 4319183382763582737,
}


@pytest.mark.parametrize(("key", "expected"), GOLDEN.items())
def test_seeds_never_change(key: tuple[int | str, ...], expected: int) -> None:
    assert derive_seed(*key) == expected


def test_seed_is_the_hash_of_seed_and_axes() -> None:
    digest = hashlib.sha256(b"1\x1fnoise\x1f2").hexdigest()
    assert derive_seed(1, "noise", 2) == int(digest[:16], 16) // 2


def test_seeds_of_different_uses_differ() -> None:
    keys = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a", 1), (0, "a1"), (1, "a")]
    seeds = {derive_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_rng_is_numpys_with_that_seed() -> None:
    expected = np.random.default_rng(derive_seed(4, "x")).random(3)
    np.testing.assert_array_equal(derive_rng(4, "x").random(3), expected)


def test_one_use_does_not_shift_another() -> None:
    expected = derive_rng(4, "b").random(3)
    derive_rng(4, "a").random(1000)
    np.testing.assert_array_equal(derive_rng(4, "b").random(3), expected)
