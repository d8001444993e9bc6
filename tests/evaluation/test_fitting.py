"""Retrieval of all fitting items: against a naive implementation, worked examples, and properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ncbench
from ncbench import ArgumentError
from ncbench.evaluation import FittingRetrieval, FittingScores, evaluate_fitting, fitting, rank, rank_fitting


def naive(scores: np.ndarray, fits: np.ndarray, annotated: np.ndarray) -> FittingScores:
    """Sort the columns of every row that something fits, and go through the list."""
    r1, precisions, averages, forgiven = [], [], [], []
    for row in range(len(scores)):
        total = int(fits[row].sum())
        if not total:
            continue
        found = sorted(range(scores.shape[1]), key=lambda c: (-scores[row, c], fits[row, c]))
        right = [bool(fits[row, column]) for column in found]
        r1.append(right[0])
        precisions.append(sum(right[:total]) / total)
        averages.append(sum(sum(right[: i + 1]) / (i + 1) for i in range(total) if right[i]) / total)
        best = max((scores[row, c] for c in range(len(found)) if annotated[row, c]), default=None)
        others = [scores[row, c] for c in range(len(found)) if not annotated[row, c]]
        if best is not None and any(score >= best for score in others):  # wrong by R@1
            forgiven.append(right[0])
    mean = [100 * float(np.mean(each)) for each in (r1, precisions, averages)]
    return FittingScores(*mean, forgiven=100 * float(np.mean(forgiven)) if forgiven else None)


def drawn(images: int, captions: int, levels: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores with ties, the image of each caption, and which captions fit which images."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (images, captions)).astype(np.float32)
    true = rng.integers(0, images, captions)
    fits = rng.random((images, captions)) < rng.random()
    fits[true, np.arange(captions)] |= rng.random() < 0.8
    fits[rng.integers(images), rng.integers(captions)] = True
    return scores, true, fits


def close(one: FittingRetrieval, i2t: FittingScores, t2i: FittingScores) -> bool:
    for found, expected in ((one.i2t, i2t), (one.t2i, t2i)):
        for name, value in vars(expected).items():
            said = getattr(found, name)
            if (said is None) != (value is None) or (value is not None and abs(said - value) > 1e-9):
                return False
    return True


@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=300)
def test_against_a_naive_implementation(images: int, captions: int, levels: int, seed: int) -> None:
    scores, true, fits = drawn(images, captions, levels, seed)
    annotated = np.zeros_like(fits)
    annotated[true, np.arange(captions)] = True
    found = evaluate_fitting(scores, true, *np.nonzero(fits.T))
    assert close(found, naive(scores, fits, annotated), naive(scores.T, fits.T, annotated.T))


@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=100)
def test_ranks_are_places_in_a_sorted_list(images: int, captions: int, levels: int, seed: int) -> None:
    scores, _, fits = drawn(images, captions, levels, seed)
    found = rank_fitting(scores, *np.nonzero(fits.T))
    for image in range(images):
        order = sorted(range(captions), key=lambda c: (-scores[image, c], fits[image, c]))
        places = sorted(place for place, c in enumerate(order) if fits[image, c])
        assert sorted(found.i2t[found.images == image]) == places
    for caption in range(captions):
        order = sorted(range(images), key=lambda i: (-scores[i, caption], fits[i, caption]))
        places = sorted(place for place, i in enumerate(order) if fits[i, caption])
        assert sorted(found.t2i[found.captions == caption]) == places


@given(st.integers(2, 7), st.integers(2, 12), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=100)
def test_forgiving_never_lowers_r1(images: int, captions: int, levels: int, seed: int) -> None:
    scores, true, fits = drawn(images, captions, levels, seed)
    fits[true, np.arange(captions)] = True
    fits[np.setdiff1d(np.arange(images), true)] = False  # R@1 is of the images with captions
    found, recalls = evaluate_fitting(scores, true, *np.nonzero(fits.T)), rank(scores, true).retrieval()
    for said, side in ((recalls.i2t, found.i2t), (recalls.t2i, found.t2i)):
        wrong = 100 - said.r1
        assert side.r1 == pytest.approx(said.r1 + wrong * (side.forgiven or 0) / 100)
        assert side.map_at_r <= side.r_precision + 1e-9
    alone = evaluate_fitting(scores, true, np.arange(captions), true)
    assert (alone.i2t.r1, alone.t2i.r1) == pytest.approx((recalls.i2t.r1, recalls.t2i.r1))
    assert not alone.i2t.forgiven
    assert not alone.t2i.forgiven


def test_a_worked_example() -> None:
    """Image 0 fits captions 0, 1 and 3, found at places 1, 2 and 4; R = 3."""
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.9, 0.3]])
    found = evaluate_fitting(scores, [0, 0, 1, 1], captions=[0, 1, 3, 2, 3], images=[0, 0, 0, 1, 1])
    # Image 0: 2 of the first 3 fit, (1/1 + 2/2) / 3. Image 1: captions 2 and 3 come first.
    assert found.i2t.r_precision == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert found.i2t.map_at_r == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert found.i2t.r1 == 100
    assert found.i2t.forgiven is None
    # Caption 3 finds image 0 first, which R@1 counts as wrong, but it fits.
    assert found.t2i == FittingScores(r1=100, r_precision=100, map_at_r=100, forgiven=100)
    assert found.map_at_r == pytest.approx((250 / 3 + 100) / 2)
    late = evaluate_fitting(scores, [0, 0, 1, 1], captions=[1, 3], images=[0, 0]).i2t
    # Places 2 and 4, R = 2: P(2) = 1/2 counts.
    assert (late.r1, late.r_precision, late.map_at_r) == (0, 50, 25)


def test_ties_count_against_the_model() -> None:
    found = evaluate_fitting(np.zeros((3, 3)), [0, 1, 2], captions=[0, 1, 2], images=[0, 1, 2])
    assert found.i2t == found.t2i == FittingScores(0, 0, 0, forgiven=0)
    both = evaluate_fitting(np.zeros((1, 2)), [0, 0], captions=[1, 0], images=[0, 0])  # nothing that does not fit
    assert both.i2t == FittingScores(100, 100, 100, forgiven=None)


def test_the_order_of_pairs_and_the_type_of_scores_do_not_matter() -> None:
    scores, true, fits = drawn(6, 9, 4, 3)
    captions, images = np.nonzero(fits.T)
    order = np.random.default_rng(0).permutation(len(captions))
    expected = evaluate_fitting(scores, true, captions, images)
    assert evaluate_fitting(scores, true, captions[order], images[order]) == expected
    tensors = torch.from_numpy(scores).half(), torch.from_numpy(true)
    assert evaluate_fitting(*tensors, captions.tolist(), torch.from_numpy(images)) == expected


def test_matrices_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, true, fits = drawn(20, 30, 9, 1)
    whole = evaluate_fitting(scores, true, *np.nonzero(fits.T))
    monkeypatch.setattr(fitting, "_BLOCK_ELEMENTS", 40)
    assert evaluate_fitting(scores, true, *np.nonzero(fits.T)) == whole


@pytest.mark.parametrize(
    ("captions", "images", "complaint"),
    [
        ([0, 1], [0], r"images: expected one number per fitting pair, found shape \(1,\)"),
        ([], [], r"captions: expected one number per fitting pair, found shape \(0,\)"),
        ([[0]], [[0]], r"captions: expected one number per fitting pair, found shape \(1, 1\)"),
        ([0, 3], [0, 1], r"captions: expected captions in \[0, 3\), found 0 to 3"),
        ([0, 1], [-1, 1], r"images: expected images in \[0, 2\), found -1 to 1"),
        ([0, 1, 0], [1, 1, 1], "captions: expected every fitting pair once, found one twice"),
        ([0.5], [0], "captions: expected integers"),
    ],
)
def test_invalid_pairs(captions: list[int], images: list[int], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        evaluate_fitting(np.eye(2, 3), [0, 1, 1], captions, images)


def test_invalid_similarities() -> None:
    with pytest.raises(ArgumentError, match="similarities: contain NaN or infinity"):
        ncbench.evaluate_fitting(np.full((1, 1), np.nan), [0], [0], [0])
    with pytest.raises(ArgumentError, match="true: expected the image of each of 1 captions"):
        ncbench.evaluate_fitting(np.ones((1, 1)), [0, 0], [0], [0])
