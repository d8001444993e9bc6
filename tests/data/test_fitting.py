"""Which captions fit which images, from closeness in meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

import ncbench
from ncbench import UserError
from ncbench.data import fitting
from ncbench.data.dataset import Dataset, IntVector
from ncbench.data.fitting import SearchableSemantics, fitting_pairs


@dataclass(frozen=True)
class Table:
    """Closeness by a matrix (captions, images)."""

    values: np.ndarray

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> np.ndarray:
        assert split == "test"
        return self.values[captions, images]


@dataclass(frozen=True)
class SearchableTable(Table):
    def pairs_at_least(self, split: str, least: np.ndarray) -> tuple[IntVector, IntVector]:
        assert split == "test"
        captions, images = np.nonzero(self.values >= least[:, None])
        return captions[::-1], images[::-1]


def test_at_least_as_close_as_the_own_image(tiny: Dataset) -> None:
    true = tiny.splits["test"].true
    values = np.full((len(true), 8), 0.25)
    values[np.arange(len(true)), true] = 0.5
    values[0, 5] = 1.0  # closer than the own image, 0
    values[3, 0] = 0.5 - 1e-12  # as close, but for rounding
    values[4, 0] = 0.49
    expected = sorted([*zip(range(len(true)), true.tolist(), strict=True), (0, 5), (3, 0)])
    for semantics in (Table(values), SearchableTable(values)):
        found = fitting_pairs(replace(tiny, semantics=semantics), "test")
        assert found is not None
        assert [*zip(found.captions.tolist(), found.images.tolist(), strict=True)] == expected
        assert len(found) == len(expected)
    assert not isinstance(Table(values), SearchableSemantics)
    assert isinstance(SearchableTable(values), SearchableSemantics)


def test_the_own_image_fits_even_if_closeness_does_not_say_so_twice(tiny: Dataset) -> None:
    class Fickle:
        calls = 0

        def closeness(self, split: str, captions: IntVector, images: IntVector) -> np.ndarray:
            self.calls += 1
            return np.full(len(captions), 0.9 if self.calls == 1 else 0.1)

    found = fitting_pairs(replace(tiny, semantics=Fickle()))
    assert found is not None
    np.testing.assert_array_equal(found.images, tiny.splits["test"].true)


def test_blocks(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((len(tiny.splits["test"].true), 8))
    whole = fitting_pairs(replace(tiny, semantics=Table(values)))
    monkeypatch.setattr(fitting, "_BLOCK_PAIRS", 7)
    parts = fitting_pairs(replace(tiny, semantics=Table(values)))
    assert whole is not None
    assert parts is not None
    np.testing.assert_array_equal(parts.captions, whole.captions)
    np.testing.assert_array_equal(parts.images, whole.images)
    assert len(whole) > len(values)


def test_without_semantics_nothing_is_known(make_dataset: Callable[..., Dataset]) -> None:
    assert ncbench.fitting_pairs(make_dataset(semantics=None)) is None


def test_unknown_splits(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="split 'val': tiny has train, dev, test"):
        ncbench.fitting_pairs(tiny, "val")
