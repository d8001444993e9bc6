from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncbench.data.dataset import Captions, CaptionVectors, ImageFeatures
from ncbench.data.feature_sizes import MAX_SIZE, first_bad_row
from ncbench.errors import UserError


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


@given(
    st.integers(0, 5),
    st.integers(0, 7),
    st.floats(width=32),
    st.sampled_from([np.float32, np.float16, np.float64]),
    st.floats(0, 9e5, width=32),
)
def test_the_first_bad_row_is_the_first_that_is_large(
    row: int, place: int, value: float, dtype: type, others: float
) -> None:
    with np.errstate(over="ignore"):
        rows = np.full((6, 4, 2), others).astype(dtype)
        rows[row].flat[place] = np.float32(value).astype(dtype)
    sizes = np.abs(rows.astype(np.float64)).max((1, 2))
    bad = np.flatnonzero(~(sizes <= MAX_SIZE))
    found = first_bad_row(rows)
    assert (None if found is None else found[0]) == (None if not len(bad) else bad[0])
    if found is not None:
        np.testing.assert_allclose(found[1], sizes[bad[0]])


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e20, -2e6])
@pytest.mark.parametrize("on_disk", [False, True])
def test_absurd_features_are_refused_when_they_are_read(tmp_path: Path, value: float, on_disk: bool) -> None:
    parts = [np.ones((8, 2, 3), np.float32) for _ in range(2)]
    parts[1][4, 1, 1] = value
    if on_disk:
        for number, part in enumerate(parts):
            np.save(tmp_path / f"part{number}.npy", part)
        parts = [np.load(tmp_path / f"part{number}.npy", mmap_mode="r") for number in range(2)]
    place = f"{tmp_path}/part1.npy" if on_disk else "features"
    features = ImageFeatures(parts)
    features.take(np.delete(np.arange(16), 12))
    for once in (features, features.reordered(np.arange(16)[::-1].copy())):
        image = 12 if once is features else 3
        for _ in range(2):  # it is refused every time
            with pytest.raises(UserError, match=rf"^{place}, row 4: contains .*expected finite numbers up to 1e\+06"):
                once.take(np.array([0, image]))
    strided = ImageFeatures(parts[1:], 4)
    with pytest.raises(UserError, match=rf"^{place}, row 4 \(image 1\): contains"):
        strided.take(np.array([0, 1]))


def test_half_precision_that_overflows_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "half.npy", np.full((2, 1, 3), np.inf, np.float16))
    with pytest.raises(UserError, match=r"half\.npy, row 1: contains NaN or infinity"):
        ImageFeatures([np.load(tmp_path / "half.npy", mmap_mode="r")]).take(np.array([1]))


def test_absurd_vectors_of_captions_are_refused() -> None:
    with pytest.raises(UserError, match="row 1: contains NaN or infinity"):
        CaptionVectors(["a", "b"], np.array([[1.0], [np.nan]], np.float32)).padded(np.array([0, 1]))


def test_rows_are_checked_the_first_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr("ncbench.data.dataset.first_bad_row", lambda rows: checked.append(len(rows)))
    features = ImageFeatures([np.ones((8, 2, 3), np.float32)])
    features.take(np.array([1, 2, 1]))
    features.reordered(np.arange(8)[::-1].copy()).take(np.array([5, 6, 7]))
    assert checked == [3, 1]
    features.take(np.array([0, 1, 2]))
    assert checked == [3, 1]


@pytest.mark.parametrize("numbers", [1, 6, 13, 1000])
def test_rows_are_checked_as_many_at_once_as_the_cache_holds(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr("ncbench.data.feature_sizes.CACHED_NUMBERS", numbers)
    for bad in range(8):
        rows = np.ones((8, 2, 3), np.float32)
        rows[bad:, 1, 1] = 2e6 + bad
        assert first_bad_row(rows) == (bad, 2e6 + bad)
        with pytest.raises(UserError, match=rf"^features, row {bad}: contains"):
            ImageFeatures([rows]).take(np.arange(8))


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
