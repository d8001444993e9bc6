"""Ranks on disk: what is written is read back, and what is no such file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench import UserError
from ncbench.evaluation.retrieval import Ranks, evaluate, rank
from ncbench.records.arrays import load_ranks, save_ranks


def same(one: Ranks, other: Ranks) -> bool:
    return all(
        len(getattr(one, side)) == len(getattr(other, side))
        and all(map(np.array_equal, getattr(one, side), getattr(other, side)))
        for side in ("i2t", "t2i")
    )


@given(folds=st.sampled_from([1, 2, 3, 6]), seed=st.integers(0, 1000))
def test_scores_follow_from_stored_ranks(folds: int, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    similarities = rng.integers(4, size=(6, 17)).astype(float)  # with ties
    true = np.concatenate([np.arange(6), rng.integers(6, size=11)])
    path = tmp_path_factory.mktemp("ranks") / "ranks.npz"
    whole = rank(similarities, true)
    save_ranks(path, whole, rank(similarities, true, folds) if folds > 1 else None)
    found = load_ranks(path)
    assert found["test"].retrieval() == evaluate(similarities, true, folds)
    assert ("test_unfolded" in found) == (folds > 1)
    assert same(found["test_unfolded" if folds > 1 else "test"], whole)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ranks.npz: cannot be read as ranks .*; restore it"):
        load_ranks(tmp_path / "ranks.npz")


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"i2t": np.zeros(3, int)}, "t2i"),
        ({"i2t": np.zeros((3, 1), int), "t2i": np.zeros(3, int)}, "i2t is not a vector of integers"),
        ({"i2t": np.zeros(0, int), "t2i": np.zeros(3, int)}, "i2t is not a vector of integers"),
        ({"i2t": np.zeros(3), "t2i": np.zeros(3, int)}, "i2t is not a vector of integers"),
        ({"i2t": np.zeros(3, int), "t2i": np.array([1, -1])}, "t2i has a rank of -1"),
        ({"i2t": np.array([None]), "t2i": np.zeros(3, int)}, "pickle"),
        (
            {f"{side}{end}": np.ones(2, int) for side in ("i2t", "t2i") for end in ("", "_folded")}
            | {"i2t_per_fold": np.array([1, 2]), "t2i_per_fold": np.array([1, 1])},
            "i2t_per_fold does not match i2t_folded",
        ),
    ],
)
def test_files_that_hold_something_else(arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "ranks.npz", **arrays)
    with pytest.raises(UserError, match=complaint):
        load_ranks(tmp_path / "ranks.npz")


def test_an_array_alone_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "ranks.npz").open("wb") as file:
        np.save(file, np.zeros(3, int))
    with pytest.raises(UserError, match="cannot be read as ranks"):
        load_ranks(tmp_path / "ranks.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x80\x04K\x01."])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ranks.npz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as ranks"):
        load_ranks(tmp_path / "ranks.npz")
