"""Renumbering the training pairs: what a method sees, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import prepare_run
from toy_methods import Toy

from ncbench import Plan, Rematches, Task
from ncbench.data.dataset import Captions, CaptionVectors, Dataset, ImageFeatures
from ncbench.noise.registry import draw_noise
from ncbench.training.numbering import Numbering, inverse

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**32)
numberings = st.builds(Numbering.draw, st.integers(1, 60), st.integers(1, 20), SEEDS)


def test_the_stream_is_pinned() -> None:
    """Everyone must train on the same order, so that results can be reproduced."""
    drawn = Numbering.draw(10, 6, 0)
    assert drawn.captions.tolist() == [6, 1, 9, 2, 0, 3, 7, 4, 8, 5]
    assert drawn.images.tolist() == [0, 4, 3, 2, 5, 1]
    assert Numbering.draw(10, 6, 1).captions.tolist() == [3, 4, 6, 5, 7, 2, 9, 0, 1, 8]
    assert Numbering.draw(10, 6, 1, "0123").captions.tolist() == [5, 0, 4, 3, 6, 7, 8, 1, 9, 2]


@given(st.integers(1, 60), st.integers(1, 20), SEEDS)
def test_both_orders_are_permutations_that_follow_from_the_seed(captions: int, images: int, seed: int) -> None:
    drawn, again = (Numbering.draw(captions, images, seed) for _ in range(2))
    assert np.array_equal(np.sort(drawn.captions), np.arange(captions))
    assert np.array_equal(np.sort(drawn.images), np.arange(images))
    assert np.array_equal(drawn.captions, again.captions)
    assert np.array_equal(drawn.images, again.images)


def test_seeds_differ() -> None:
    drawn = {Numbering.draw(50, 10, seed).captions.tobytes() for seed in range(20)}
    assert len(drawn) == 20


@given(numberings, st.randoms(use_true_random=False))
def test_values_pairs_rematches_and_plans_come_back(numbering: Numbering, random: object) -> None:
    n, images = len(numbering.captions), len(numbering.images)
    values = np.random.default_rng(n).random(n)
    np.testing.assert_array_equal(numbering.restored(numbering.shown(values)), values)
    pairs = np.flatnonzero(values > 0.5)
    np.testing.assert_array_equal(numbering.restored_pairs(numbering.shown_pairs(pairs)), pairs)
    assert np.array_equal(numbering.shown(values > 0.5).nonzero()[0], numbering.shown_pairs(pairs))
    # A belief stated naively, pair by pair, in the numbers of the method.
    new_caption = {int(old): new for new, old in enumerate(numbering.captions)}
    new_image = {int(old): new for new, old in enumerate(numbering.images)}
    believed = [(caption, caption % images, values[caption]) for caption in range(n) if values[caption] > 0.3]
    stated = Rematches(
        np.array([new_caption[c] for c, _, _ in believed][::-1], np.int64),
        np.array([new_image[i] for _, i, _ in believed][::-1], np.int64),
        np.array([w for _, _, w in believed][::-1], np.float64),
    )
    found = numbering.restored_rematches(stated)
    assert list(zip(found.captions.tolist(), found.images.tolist(), found.weights.tolist(), strict=True)) == believed
    mass = np.random.default_rng(1).random((len(stated.images), len(stated.captions)))
    plan = numbering.restored_plan(Plan(stated.captions, stated.images, mass))
    assert plan.captions.tolist() == [c for c, _, _ in believed][::-1]
    assert plan.images.tolist() == [i for _, i, _ in believed][::-1]
    assert plan.mass is mass


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda n: n.restored(np.ones(9)), "expected one value for each of 10 training pairs, found 9"),
        (lambda n: n.restored_pairs(np.array([10])), r"numbers of captions must be in \[0, 10\), found 10 to 10"),
        (
            lambda n: n.restored_rematches(Rematches(np.array([0]), np.array([-1]), np.ones(1))),
            r"numbers of images must be in \[0, 6\), found -1 to -1",
        ),
        (
            lambda n: n.restored_plan(Plan(np.array([0, 12]), np.array([0]), np.ones((1, 2)))),
            r"numbers of captions must be in \[0, 10\), found 0 to 12",
        ),
        (lambda n: Numbering(n.captions + 1, n.images), "expected a permutation of 10 numbers"),
        (lambda n: Numbering(n.captions * 0, n.images), "expected a permutation of 10 numbers"),
    ],
)
def test_numbers_out_of_range(wrong: Callable[[Numbering], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(Numbering.draw(10, 6, 0))


def test_inverse() -> None:
    assert inverse(np.array([2, 0, 1])).tolist() == [1, 2, 0]


def random_captions(rng: np.random.Generator, count: int, vectors: bool) -> Captions:
    texts = [f"caption {number}" for number in range(count)]
    if vectors:
        return CaptionVectors(texts, rng.normal(size=(count, 3)).astype(np.float32))
    return Captions(texts, [rng.integers(1, 99, rng.integers(2, 7)).tolist() for _ in range(count)])


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(2, 12), SEEDS, st.booleans(), st.booleans())
def test_a_view_holds_the_pairs_of_the_dataset_under_other_numbers(
    each: int, n_images: int, seed: int, vectors: bool, repeated_rows: bool
) -> None:
    rng = np.random.default_rng(seed)
    n = each * n_images
    captions = random_captions(rng, n, vectors)
    stride = 2 if repeated_rows else 1
    images = ImageFeatures(np.array_split(rng.normal(size=(n_images * stride, 2, 3)).astype(np.float32), 2), stride)
    claimed = rng.integers(0, n_images, n)
    numbering = Numbering.draw(n, n_images, seed)
    view = numbering.view(images, captions, claimed, CPU)
    assert (len(view), view.n_images) == (n, n_images)
    batch = view.batch(np.arange(n))
    for new, old in enumerate(numbering.captions):
        tokens, lengths = captions.padded(np.array([old]))
        length = int(lengths[0])
        assert batch.lengths[new] == length
        shown = batch.tokens[new] if vectors else batch.tokens[new, :length]
        np.testing.assert_array_equal(shown.numpy(), tokens[0])
        expected = images.take(np.array([claimed[old]]))[0]
        np.testing.assert_array_equal(batch.images[new].numpy(), expected)
        np.testing.assert_array_equal(view.images(view.claimed[[new]])[0].numpy(), expected)


@pytest.mark.parametrize("protocol", ["shuffle-captions", "shuffle-images", "partial"])
@pytest.mark.parametrize("seed", range(3))
def test_numbers_tell_nothing_of_the_truth(protocol: str, seed: int, many_pairs: Dataset) -> None:
    """What the order of captions gave away, `claimed == p // k`, is right no more often than a fixed answer."""
    train = many_pairs.splits["train"]
    noise = draw_noise(protocol, 0.4, train, seed)
    numbering = Numbering.draw(len(train.captions), len(train.images), seed)
    view = numbering.view(train.images, noise.seen(train.captions, many_pairs.vocabulary), noise.claimed, CPU)
    clean = numbering.shown(noise.clean(train.true))
    n, n_images = len(view), view.n_images
    guess = view.claimed == np.arange(n) // (n // n_images)
    assert guess.mean() == pytest.approx(1 / n_images, abs=4 / n_images**0.5 / n**0.5)
    together = view.claimed[:-1] == view.claimed[1:]  # neighbours that claim one image are rare, and clean by chance
    assert together.mean() < 4 / n_images
    assert abs(np.corrcoef(np.arange(n), clean)[0, 1]) < 4 / n**0.5
    assert abs(np.corrcoef(np.arange(n), view.claimed)[0, 1]) < 4 / n**0.5


def test_nothing_in_memory_keeps_the_order_of_the_captions(many_pairs: Dataset) -> None:
    train = many_pairs.splits["train"]
    numbering = Numbering.draw(len(train.captions), len(train.images), 0)
    view = numbering.view(train.images, train.captions, train.true, CPU)
    held = view._captions
    assert set(held.texts) == {""}
    for array in (held._tokens, held.lengths, held._offsets, view.claimed):
        assert array.base is None
        for original in (train.captions._tokens, train.captions.lengths, train.captions._offsets, train.true):
            assert not np.shares_memory(array, original)
    batch = view.batch(np.arange(8))
    for tensor in (batch.images, batch.tokens, batch.lengths):
        assert tensor._base is None
        assert tensor.storage_offset() == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_shows_other_numbers_than_the_dataset_has(tiny: Dataset, tmp_path: Path, seed: int) -> None:
    seen: list[np.ndarray] = []

    class Recording(Toy):
        def setup(self, task: Task) -> None:
            super().setup(task)
            seen.append(task.data.claimed)

    run = prepare_run(tiny, tmp_path, Recording, budget=0.5, seed=seed)
    run.execute()
    (claimed,) = seen
    clean = run.noise.clean(tiny.splits["train"].true)
    assert clean.mean() > 0.5
    assert (claimed == np.arange(48) // 2).mean() < 0.2  # in the numbers of the dataset, this is `clean`
    numbering = Numbering.draw(48, 24, seed, run.spec.noise_digest)
    np.testing.assert_array_equal(numbering.images[claimed], run.noise.claimed[numbering.captions])


def test_features_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    features = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
    np.save(path, features)
    mapped = np.load(path, mmap_mode="r")
    numbering = Numbering.draw(40, 20, 0)
    images = ImageFeatures([mapped]).reordered(numbering.images)
    assert images.on_disk
    assert len(images) == 20
    assert images._chunks[0] is mapped
    np.testing.assert_array_equal(images.take(np.arange(20)), features[numbering.images])
    twice = images.reordered(np.arange(20)[::-1])
    np.testing.assert_array_equal(twice.take(np.array([0, 3])), features[numbering.images[::-1]][[0, 3]])
    with pytest.raises(IndexError):
        images.take(np.array([20]))


@pytest.fixture(scope="module")
def many_pairs() -> Dataset:
    from ncbench.checks.shapes import Shapes

    return Shapes(images={"train": 160, "dev": 2, "test": 2}, captions_each=5).load()
