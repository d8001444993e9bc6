"""What a method sees is numbered at random, and what it says is translated back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncbench import Plan, Rematches
from ncbench.data.dataset import Captions, CaptionVectors, ImageFeatures, Split
from ncbench.noise.registry import draw_noise
from ncbench.training.numbering import Numbering

CPU = torch.device("cpu")


def split_of(n_images: int, each: int) -> tuple[ImageFeatures, Captions, np.ndarray]:
    """Return images whose features are their numbers, captions whose first word is theirs, and the true pairs."""
    features = np.arange(n_images, dtype=np.float32)[:, None, None].repeat(2, 1).repeat(3, 2)
    n = n_images * each
    words = [[c + 10, *range(4, 4 + c % 3)] for c in range(n)]
    return ImageFeatures([features]), Captions([f"caption {c}" for c in range(n)], words), np.arange(n) // each


@given(n_images=st.integers(1, 12), each=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_pair_stays_what_it_is_under_another_number(n_images: int, each: int, seed: int) -> None:
    images, captions, claimed = split_of(n_images, each)
    claimed = np.random.default_rng(seed).permutation(claimed)
    numbering = Numbering.draw(len(captions), n_images, seed)
    view = numbering.view(images, captions, claimed, CPU)
    batch = view.batch(np.arange(len(captions)))
    assert sorted(numbering.captions) == list(range(len(captions)))
    np.testing.assert_array_equal(batch.tokens[:, 0].numpy() - 10, numbering.captions)
    np.testing.assert_array_equal(batch.lengths.numpy(), captions.lengths[numbering.captions])
    np.testing.assert_array_equal(batch.images[:, 0, 0].numpy(), claimed[numbering.captions])
    np.testing.assert_array_equal(view.images(np.arange(n_images))[:, 0, 0].numpy(), numbering.images)
    np.testing.assert_array_equal(numbering.images[view.claimed], claimed[numbering.captions])


@given(n=st.integers(1, 40), n_images=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_is_said_of_pairs_comes_back(n: int, n_images: int, seed: int) -> None:
    numbering, rng = Numbering.draw(n, n_images, seed), np.random.default_rng(seed)
    values = rng.random(n)
    np.testing.assert_array_equal(numbering.restored(numbering.shown(values)), values)
    chosen = rng.permutation(n)[: n // 2]
    shown = numbering.shown_pairs(chosen)
    assert (np.diff(shown) > 0).all()
    np.testing.assert_array_equal(np.sort(numbering.captions[shown]), np.sort(chosen))
    captions, pictures = rng.integers(0, n, 7), rng.integers(0, n_images, 7)
    found = numbering.restored_rematches(Rematches(captions, pictures, np.ones(7)))
    np.testing.assert_array_equal(found.captions, numbering.captions[captions])
    np.testing.assert_array_equal(found.images, numbering.images[pictures])
    plan = numbering.restored_plan(Plan(captions, pictures, np.eye(7)))
    np.testing.assert_array_equal(plan.captions, found.captions)
    np.testing.assert_array_equal(plan.images, found.images)
    np.testing.assert_array_equal(plan.mass, np.eye(7))


@pytest.mark.parametrize("protocol", ["shuffle-captions", "shuffle-images"])
@pytest.mark.parametrize("ratio", [0.2, 0.8])
def test_numbers_tell_nothing_of_the_truth(protocol: str, ratio: float) -> None:
    images, captions, true = split_of(200, 5)
    noise = draw_noise(protocol, ratio, Split(images, captions, true), 0)
    view = Numbering.draw(1000, 200, 0).view(images, captions, noise.claimed, CPU)
    assert np.mean(noise.claimed == np.arange(1000) // 5) > 0.15  # of the data set, they tell all
    assert np.mean(view.claimed == np.arange(1000) // 5) < 0.02
    neighbours = np.mean(view.claimed[1:] == view.claimed[:-1])
    assert neighbours < 0.02


def test_numbers_follow_from_the_seed_of_the_run() -> None:
    first, again, other = (Numbering.draw(50, 10, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.captions, again.captions)
    assert not np.array_equal(first.captions, other.captions)


def test_vectors_and_texts_are_reordered() -> None:
    vectors = CaptionVectors(["a", "b", "c"], np.arange(6, dtype=np.float32).reshape(3, 2))
    order = np.array([2, 0])
    again = vectors.reordered(order)
    assert again.texts == ["c", "a"]
    np.testing.assert_array_equal(again.padded(np.array([0, 1]))[0], [[4, 5], [0, 1]])
    assert Captions(["x", "y"], [[1], [2, 3]]).reordered(np.array([1])).texts == ["y"]
