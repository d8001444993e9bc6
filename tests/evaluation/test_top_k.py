"""The best matches of queries: their order, their agreement with ranks, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncbench import UserError
from ncbench.evaluation import top_k
from ncbench.evaluation.retrieval import rank
from ncbench.evaluation.top_k import Retrieved, retrieve
from ncbench.records.arrays import load_retrieved, save_retrieved


@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=200)
def test_as_sorting_everything(images: int, captions: int, depth: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (images, captions)).astype(np.float32)  # with ties, also of true matches
    true = rng.integers(0, images, captions)
    found = retrieve(scores, true, depth)
    for image in range(images):
        order = sorted(range(captions), key=lambda c: (-scores[image, c], true[c] == image))
        assert [scores[image, c] for c in found.i2t[image]] == [scores[image, c] for c in order[:depth]]
        assert list(found.i2t_correct[image]) == [true[c] == image for c in order[:depth]]
    for caption in range(captions):
        order = sorted(range(images), key=lambda i: (-scores[i, caption], true[caption] == i))
        assert [scores[i, caption] for i in found.t2i[caption]] == [scores[i, caption] for i in order[:depth]]
        assert list(found.t2i_correct[caption]) == [true[caption] == i for i in order[:depth]]


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=100)
def test_true_matches_are_at_their_ranks(images: int, captions: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (images, captions)).astype(np.float32)
    true = rng.integers(0, images, captions)
    found, ranks = retrieve(scores, true, 3), rank(scores, true)
    places = [int(row.argmax()) if row.any() else None for row in found.t2i_correct]
    assert places == [int(r) if r < min(3, images) else None for r in ranks.t2i[0]]
    with_captions = found.i2t_correct[np.unique(true)]
    places = [int(row.argmax()) if row.any() else None for row in with_captions]
    assert places == [int(r) if r < min(3, captions) else None for r in ranks.i2t[0]]


def test_adjacent_numbers_are_not_ties() -> None:
    below = np.nextafter(np.float32(1), np.float32(0))
    found = retrieve(np.array([[1, below, 0]], np.float32), np.array([0, 0, 0]))
    assert found.i2t.tolist() == [[0, 1, 2]]
    two = retrieve(np.array([[1], [below]], np.float32), np.array([0]))
    assert two.t2i.tolist() == [[0, 1]]


def test_zeros_tie_where_denormals_are_flushed() -> None:
    """Runs flush denormals. The true match still comes last among zeros, and before anything smaller."""
    scores = np.zeros((2, 6), np.float32)
    scores[0, 5] = -np.finfo(np.float32).tiny
    torch.set_flush_denormal(True)
    try:
        found = retrieve(scores, np.array([0, 0, 0, 1, 1, 1]), 6)
    finally:
        torch.set_flush_denormal(False)
    assert found.i2t.tolist() == [[3, 4, 0, 1, 2, 5], [0, 1, 2, 3, 4, 5]]
    assert found.t2i.tolist() == [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]


def test_matrices_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, true = rng.random((20, 30)).astype(np.float32), rng.integers(0, 20, 30)
    whole = retrieve(scores, true)
    monkeypatch.setattr(top_k, "_BLOCK_ELEMENTS", 40)
    parts = retrieve(scores, true)
    np.testing.assert_array_equal(parts.i2t, whole.i2t)
    np.testing.assert_array_equal(parts.t2i, whole.t2i)


FOUND = Retrieved(np.array([[0, 2], [1, 0]]), np.array([[0], [1], [1]]), np.array([0, 0, 1]))


def test_round_trip_to_a_file(tmp_path: Path) -> None:
    save_retrieved(tmp_path / "retrieved.npz", FOUND)
    read = load_retrieved(tmp_path / "retrieved.npz")
    for name, given_ in vars(FOUND).items():
        np.testing.assert_array_equal(getattr(read, name), given_)
        assert getattr(read, name).dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"true": None}, "true"),
        ({"i2t": np.zeros(2, int)}, "i2t has 1 dimensions of int64"),
        ({"t2i": np.zeros((3, 1))}, "t2i has 2 dimensions of float64"),
        ({"i2t": np.zeros((0, 2), int)}, "it has numbers of images or captions that do not exist"),
        ({"i2t": np.array([[0, 3], [1, 0]])}, "that do not exist"),
        ({"t2i": np.array([[0], [-1], [1]])}, "that do not exist"),
        ({"true": np.array([0, 0, 2])}, "that do not exist"),
        ({"true": np.array([0, 0])}, "one true image per caption"),
        ({"i2t": np.array([None])}, "pickle"),
    ],
)
def test_files_that_hold_something_else(changes: dict[str, np.ndarray | None], complaint: str, tmp_path: Path) -> None:
    arrays = {name: array for name, array in {**vars(FOUND), **changes}.items() if array is not None}
    np.savez(tmp_path / "retrieved.npz", **arrays)
    with pytest.raises(UserError, match=rf"retrieved.npz: cannot be read as retrieved items \(.*{complaint}"):
        load_retrieved(tmp_path / "retrieved.npz")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as retrieved items"):
        load_retrieved(tmp_path / "retrieved.npz")
