"""Ranks and retrieved items from blocks equal those of the whole matrix, ties included, whatever the blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncbench.data.dataset import FloatArray, IntVector
from ncbench.data.fitting import FittingPairs
from ncbench.errors import ArgumentError
from ncbench.evaluation import blocked
from ncbench.evaluation.blocked import rank_blocks
from ncbench.evaluation.blocks import Block, Blocks
from ncbench.evaluation.fitting import rank_fitting
from ncbench.evaluation.outcome import outcome_of
from ncbench.evaluation.retrieval import Ranks, rank
from ncbench.evaluation.ties import tied_captions

examples = settings(max_examples=150)


class Cut(Blocks):
    """Blocks of a matrix, in random order, with images and captions in random order."""

    def __init__(self, matrix: FloatArray, rows: int, columns: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shape, self._matrix = matrix.shape, matrix
        images, captions = (
            np.array_split(rng.permutation(count), range(step, count, step))
            for count, step in zip(matrix.shape, (rows, columns), strict=True)
        )
        self._cuts = [(some, others) for some in images for others in captions]
        rng.shuffle(self._cuts)

    def __iter__(self) -> Iterator[Block]:
        for images, captions in self._cuts:
            yield Block(images, captions, self._matrix[np.ix_(images, captions)])


@st.composite
def cut(draw: st.DrawFn) -> tuple[FloatArray, IntVector, Cut]:
    """Similarities with many ties, any number of captions per image, also none, in blocks of odd sizes."""
    n_images, n_captions = draw(st.integers(1, 9)), draw(st.integers(1, 25))
    seed, levels = draw(st.integers(0, 2**32)), draw(st.integers(1, 30))
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-levels, levels, (n_images, n_captions)).astype(np.float32) / 7
    blocks = Cut(matrix, draw(st.integers(1, 10)), draw(st.integers(1, 26)), seed)
    return matrix, rng.integers(0, n_images, n_captions), blocks


@pytest.fixture(autouse=True, params=[1, 7, 1 << 18])
def _parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "_PART_ELEMENTS", request.param)


def naive(matrix: FloatArray, true: IntVector) -> Ranks:
    """Sort all captions of every image, and all images of every caption; correct ones come last among equals."""
    i2t = [
        min(sorted(range(len(true)), key=lambda c: (-row[c], true[c] == image)).index(c) for c in own)
        for image, row in enumerate(matrix)
        if len(own := np.flatnonzero(true == image))
    ]
    t2i = [
        sorted(range(len(matrix)), key=lambda i: (-matrix[i, c], i == image)).index(image)
        for c, image in enumerate(true.tolist())
    ]
    return Ranks((np.array(i2t),), (np.array(t2i),))


def same(found: Ranks, expected: Ranks) -> bool:
    return all(
        len(one) == len(other) and all(map(np.array_equal, one, other))
        for one, other in ((found.i2t, expected.i2t), (found.t2i, expected.t2i))
    )


@examples
@given(cut())
def test_ranks_as_by_sorting_and_as_of_the_matrix(data: tuple[FloatArray, IntVector, Cut]) -> None:
    matrix, true, blocks = data
    found = rank_blocks(blocks, true)
    assert same(found, naive(matrix, true))
    assert same(found, rank(matrix, true))


@examples
@given(cut(), st.integers(1, 9))
def test_all_that_records_keep(data: tuple[FloatArray, IntVector, Cut], depth: int) -> None:
    matrix, true, blocks = data
    found = outcome_of(blocks, true, depth=depth)
    assert same(found.whole, rank(matrix, true))
    assert found.folded is None
    assert found.tied == tied_captions(matrix, true)
    assert found.fitting is None
    n_images, n_captions = matrix.shape
    for image in range(n_images):
        order = sorted(range(n_captions), key=lambda c: (-matrix[image, c], true[c] == image, c))
        assert found.retrieved.i2t[image].tolist() == order[:depth]
    for caption in range(n_captions):
        order = sorted(range(n_images), key=lambda i: (-matrix[i, caption], i == true[caption], i))
        assert found.retrieved.t2i[caption].tolist() == order[:depth]


@examples
@given(cut(), st.integers(1, 3), st.integers(0, 10**6))
def test_folds(data: tuple[FloatArray, IntVector, Cut], folds: int, seed: int) -> None:
    matrix, true, _ = data
    matrix = np.concatenate([matrix] * folds)
    true = np.concatenate([true % (len(matrix) // folds) + fold * (len(matrix) // folds) for fold in range(folds)])
    matrix = np.concatenate([matrix] * folds, axis=1)
    blocks = Cut(matrix, 1 + seed % 5, 1 + seed % 7, seed)
    expected = rank(matrix, true, folds)
    assert same(rank_blocks(blocks, true, folds), expected)
    found = outcome_of(blocks, true, folds)
    assert found.folded is None if folds == 1 else same(found.folded, expected)
    assert same(found.whole, rank(matrix, true))


@examples
@given(cut(), st.integers(0, 10**6))
def test_fitting_pairs(data: tuple[FloatArray, IntVector, Cut], seed: int) -> None:
    matrix, true, blocks = data
    fits = np.random.default_rng(seed).random(matrix.T.shape) < 0.3
    fits[np.arange(len(true)), true] = True
    pairs = FittingPairs(*np.nonzero(fits))
    found, expected = (
        outcome_of(blocks, true, fitting=pairs).fitting,
        rank_fitting(matrix, pairs.captions, pairs.images),
    )
    assert found is not None
    for name in ("captions", "images", "i2t", "t2i"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_equal_scores_of_a_whole_split() -> None:
    true = np.arange(300) // 5
    found = outcome_of(Cut(np.zeros((60, 300), np.float32), 7, 11, 0), true)
    assert set(found.whole.i2t[0]) == {295}
    assert set(found.whole.t2i[0]) == {59}
    assert found.tied == 300
    assert found.retrieved.i2t[0].tolist() == [5, 6, 7, 8, 9]
    assert found.retrieved.t2i[299].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite(bad: float) -> None:
    matrix = np.zeros((4, 6), np.float32)
    matrix[3, 5] = bad
    with pytest.raises(ArgumentError, match="similarities: contain NaN or infinity"):
        rank_blocks(Cut(matrix, 2, 4, 0), np.zeros(6, np.int64))


def test_errors_are_those_of_the_matrix() -> None:
    matrix = np.zeros((4, 6), np.float32)
    for true, folds, message in (
        (np.zeros(5, np.int64), 1, "true: expected the image of each of 6 captions"),
        (np.full(6, 4), 1, r"true: expected images in \[0, 4\), found 4 to 4"),
        (np.zeros(6, np.int64), 3, "folds: 3 folds do not divide 4 images"),
        (np.zeros(6, np.int64), 2, "true: images 2 to 3 form a fold without captions"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rank_blocks(Cut(matrix, 2, 4, 0), true, folds)
        with pytest.raises(ArgumentError, match=message):
            rank(matrix, true, folds)
