"""Datasets of tests of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ncbench.data.dataset import Dataset


@pytest.fixture(scope="module")
def with_dropout(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(scale={"embed": 16, "similarity": 8, "word": 8, "dropout": 0.3})
