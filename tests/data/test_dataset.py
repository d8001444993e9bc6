from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.data.dataset import Captions, ImageFeatures


@st.composite
def chunked_features(draw: st.DrawFn) -> tuple[list[np.ndarray], int, np.ndarray]:
    """Chunks of rows, a stride, and image numbers into them (any order, with repeats)."""
    sizes = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 0))
    stride = draw(st.integers(1, 5))
    rows = np.arange(sum(sizes) * 2 * 3, dtype=np.float32).reshape(-1, 2, 3)
    chunks = np.split(rows, np.cumsum(sizes)[:-1])
    n_images = len(range(0, len(rows), stride))
    images = draw(st.lists(st.integers(0, n_images - 1), max_size=12))
    return chunks, stride, np.array(images, dtype=np.int64)


@given(chunked_features())
def test_take_equals_indexing_the_joined_rows(case: tuple[list[np.ndarray], int, np.ndarray]) -> None:
    chunks, stride, images = case
    joined = np.concatenate(chunks)[::stride]
    features = ImageFeatures(chunks, stride)
    taken = features.take(images)
    assert len(features) == len(joined)
    assert (features.n_regions, features.dim) == (2, 3)
    assert taken.dtype == np.float32
    assert taken.flags.c_contiguous
    assert type(taken) is np.ndarray
    np.testing.assert_array_equal(taken, joined[images])


def test_take_returns_a_copy() -> None:
    rows = np.zeros((3, 2, 2), np.float32)
    ImageFeatures([rows]).take(np.array([0, 1]))[:] = 1
    assert not rows.any()


def test_chunks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        ImageFeatures([np.zeros((3, 2, 2), np.float32), np.zeros((3, 2, 4), np.float32)])
    with pytest.raises(ValueError, match="one shape"):
        ImageFeatures([np.zeros((3, 2), np.float32)])


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=10), st.data())
def test_padded_equals_padding_one_by_one(token_lists: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(token_lists) - 1), max_size=8))
    words, lengths = Captions(["a caption"] * len(token_lists), token_lists).padded(np.array(chosen, dtype=np.int64))
    longest = max((len(token_lists[c]) for c in chosen), default=0)
    assert words.shape == (len(chosen), longest)
    assert words.dtype == np.int64
    assert lengths.tolist() == [len(token_lists[c]) for c in chosen]
    assert words.tolist() == [token_lists[c] + [0] * (longest - len(token_lists[c])) for c in chosen]


def test_texts_and_token_lists_must_match() -> None:
    with pytest.raises(ValueError, match="1 texts but 2 token lists"):
        Captions(["a"], [[1], [2]])
