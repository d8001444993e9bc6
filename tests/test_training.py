"""The training view: claimed pairs in batches, nothing of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncbench import TrainingView
from ncbench.data.dataset import Dataset
from ncbench.seeds import derive_rng

CPU = torch.device("cpu")


@pytest.fixture
def claimed(tiny: Dataset) -> np.ndarray:
    return derive_rng(3).permutation(tiny.splits["train"].true)


@pytest.fixture
def view(tiny: Dataset, claimed: np.ndarray) -> TrainingView:
    train = tiny.splits["train"]
    return TrainingView(train.images, train.captions, claimed, CPU)


def test_sizes(view: TrainingView) -> None:
    assert (len(view), view.n_images) == (48, 24)


def test_claimed_is_a_copy_that_cannot_be_written(view: TrainingView, claimed: np.ndarray) -> None:
    before = claimed.copy()
    with pytest.raises(ValueError, match="read-only"):
        view.claimed[0] = 0
    claimed[:] = 0
    np.testing.assert_array_equal(view.claimed, before)


def test_public_names_hold_no_truth(view: TrainingView) -> None:
    assert {name for name in dir(view) if not name.startswith("_")} == {
        "batch",
        "batches",
        "claimed",
        "images",
        "n_images",
    }


def test_images_are_copies_of_the_features(view: TrainingView, tiny: Dataset) -> None:
    numbers = np.array([5, 0, 5])
    before = tiny.splits["train"].images.take(numbers)
    images = view.images(numbers)
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images.numpy(), before)
    images.zero_()
    np.testing.assert_array_equal(tiny.splits["train"].images.take(numbers), before)


def test_a_batch_holds_captions_and_the_images_they_claim(view: TrainingView, tiny: Dataset) -> None:
    pairs = np.array([7, 40, 3, 5])
    batch = view.batch(pairs)
    assert len(batch) == 4
    np.testing.assert_array_equal(batch.pairs, pairs)
    train = tiny.splits["train"]
    for row, pair in enumerate(pairs):
        np.testing.assert_array_equal(batch.images[row].numpy(), train.images.take(view.claimed[[pair]])[0])
        length = int(batch.lengths[row])
        words = tiny.vocabulary.encode(train.captions.texts[pair].split())
        assert batch.tokens[row].tolist() == words + [0] * (batch.tokens.shape[1] - length)
        assert length == len(words)
    assert (batch.tokens.dtype, batch.lengths.dtype, batch.lengths.device.type) == (torch.int64, torch.int64, "cpu")


@pytest.mark.parametrize(
    ("size", "n_pairs", "drop_last", "expected"),
    [
        (8, 48, False, [8] * 6),
        (10, 48, False, [10, 10, 10, 10, 8]),
        (10, 48, True, [10, 10, 10, 10]),
        (47, 48, False, [47]),  # a last single pair has no negatives
        (47, 48, True, [47]),
        (46, 48, False, [46, 2]),
        (100, 48, False, [48]),
        (100, 48, True, []),
        (8, 1, False, []),
        (8, 0, False, []),
        (1, 3, False, []),
    ],
)
def test_sizes_of_batches(view: TrainingView, size: int, n_pairs: int, drop_last: bool, expected: list[int]) -> None:
    batches = list(view.batches(size, derive_rng(0), np.arange(n_pairs), drop_last=drop_last))
    assert [len(batch) for batch in batches] == expected


@pytest.mark.parametrize("pairs", [None, np.array([3, 9, 40, 41, 2])])
def test_an_epoch_covers_every_pair_once_in_random_order(view: TrainingView, pairs: np.ndarray | None) -> None:
    wanted = list(range(48)) if pairs is None else sorted(pairs)
    orders = [np.concatenate([b.pairs for b in view.batches(3, derive_rng(seed), pairs)]).tolist() for seed in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == wanted
    assert orders[0] != orders[1]
    again = np.concatenate([b.pairs for b in view.batches(3, derive_rng(0), pairs)]).tolist()
    assert again == orders[0]


def test_epochs_of_one_generator_differ(view: TrainingView) -> None:
    rng = derive_rng(0)
    first, second = (np.concatenate([b.pairs for b in view.batches(8, rng)]).tolist() for _ in range(2))
    assert first != second
