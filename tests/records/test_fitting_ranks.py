"""The file with the ranks of all that fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncbench import UserError
from ncbench.evaluation.fitting import rank_fitting
from ncbench.records.arrays import load_fitting, save_fitting

GOOD = {"captions": np.array([0, 1]), "images": np.array([0, 0]), "i2t": np.array([2, 0]), "t2i": np.array([1, 1])}


def test_ranks_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = rank_fitting(rng.random((4, 7)), [*range(7), 0], [0, 1, 2, 3, 0, 1, 2, 3])
    save_fitting(tmp_path / "fitting.npz", found)
    read = load_fitting(tmp_path / "fitting.npz")
    for name, values in vars(found).items():
        np.testing.assert_array_equal(getattr(read, name), values)
        assert getattr(read, name).dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"i2t": np.array([1])}, "it must have four numbers per pair, and at least one pair"),
        ({name: np.zeros(0, int) for name in GOOD}, "it must have four numbers per pair, and at least one pair"),
        ({"t2i": np.array([0, -1])}, "it has numbers outside"),
        ({"captions": np.array([0, 2**31])}, "it has numbers outside"),
        ({"captions": np.array([0, 0]), "t2i": np.array([0, 1])}, "it has equal pairs"),
        ({"i2t": np.array([2, 2])}, "it has equal ranks"),
        ({"captions": np.array([0, 0]), "images": np.array([0, 1])}, "it has equal ranks"),
        ({"i2t": np.zeros(2)}, "i2t has 1 dimensions of float64"),
        ({"more": np.zeros(2, int)}, "it has an unknown array 'more'"),
    ],
)
def test_damaged_files(arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "fitting.npz"
    np.savez(path, **GOOD)
    load_fitting(path)
    np.savez(path, **{**GOOD, **arrays})
    with pytest.raises(UserError, match=rf"fitting.npz: cannot be read as ranks of fitting pairs \({complaint}"):
        load_fitting(path)


def test_missing_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "fitting.npz", captions=np.zeros(1, int))
    with pytest.raises(UserError, match="cannot be read as ranks of fitting pairs"):
        load_fitting(tmp_path / "fitting.npz")
