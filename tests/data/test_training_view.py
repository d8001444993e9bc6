"""The training view: claimed pairs in batches, nothing of the truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from ncbench import Batch, TrainingView, UserError
from ncbench.data.dataset import Dataset, ImageFeatures
from ncbench.runtime.seeds import derive_rng
from ncbench.runtime.state import capture

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
        "begin_epoch",
        "claimed",
        "images",
        "load_state_dict",
        "midway",
        "n_images",
        "state_dict",
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


def pairs_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.pairs.tolist() for batch in batches]


def test_an_epoch_goes_on_from_its_middle_with_what_it_keeps(view: TrainingView) -> None:
    rng, other = derive_rng(0), derive_rng(1)
    view.begin_epoch()
    assert not view.midway
    kept = view.batches(8, rng, keep="pairs")
    beside = view.batches(10, other, np.arange(30), drop_last=True, keep="others")
    scanned = view.batches(8, rng)
    for batches, count in ((kept, 2), (beside, 3), (scanned, 1)):
        for _ in range(count):
            next(batches)
    state, draws = capture(view.state_dict()), rng.bit_generator.state
    assert set(state) == {"pairs", "others"}
    rest = pairs_of(kept)
    assert len(rest) == 4
    assert list(beside) == []

    view.begin_epoch()
    view.load_state_dict(state)
    assert view.midway
    rng.bit_generator.state = draws
    again = view.batches(8, rng, keep="pairs")
    assert rng.bit_generator.state == draws  # nothing is drawn
    assert pairs_of(again) == rest
    assert list(view.batches(10, other, np.arange(30), drop_last=True, keep="others")) == []
    # Once it is through, the name stands for new ones, as in a loop without end.
    anew = view.batches(8, rng, keep="pairs")
    assert rng.bit_generator.state != draws
    assert len(pairs_of(anew)) == 6
    view.begin_epoch()
    assert not view.midway
    assert view.state_dict() == {}


def test_what_an_epoch_keeps_is_what_it_took_last(view: TrainingView) -> None:
    rng = derive_rng(0)
    first, second = view.batches(8, rng, keep="noisy"), view.batches(8, rng, keep="noisy")
    next(first)
    next(second)
    next(second)
    (state,) = view.state_dict().values()
    assert state["position"] == 16


def test_a_state_that_is_not_asked_for_is_kept_for_the_next_checkpoint(view: TrainingView) -> None:
    rng = derive_rng(0)
    batches = view.batches(8, rng, keep="late")
    next(batches)
    state = capture(view.state_dict())
    view.load_state_dict(state)
    assert view.state_dict()["late"]["position"] == 8


def test_batches_that_are_read_ahead_are_the_same(
    tiny: Dataset, claimed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tiny.splits["train"]
    np.save(tmp_path / "features.npy", train.images.take(np.arange(len(train.images))))
    on_disk = ImageFeatures([np.load(tmp_path / "features.npy", mmap_mode="r")])
    plain, ahead = (
        TrainingView(images, train.captions, claimed, torch.device("cpu")) for images in (train.images, on_disk)
    )
    monkeypatch.setattr("ncbench.data.training_view.READ_AHEAD", 1)
    batches = [list(view.batches(7, derive_rng(0, "order"))) for view in (plain, ahead)]
    assert len(batches[0]) == len(batches[1]) == 7
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.tokens, other.tokens)
        assert np.array_equal(one.pairs, other.pairs)
    # What was read ahead is not yet taken: a checkpoint goes on before it.
    ahead.begin_epoch()
    begun = ahead.batches(7, derive_rng(0, "order"), keep="all")
    next(begun)
    state = ahead.state_dict()
    ahead.load_state_dict(state)
    rest = list(ahead.batches(7, derive_rng(9, "other"), keep="all"))
    assert [batch.pairs.tolist() for batch in rest] == [batch.pairs.tolist() for batch in batches[0][1:]]


def test_what_fails_while_it_is_read_ahead_is_raised(
    tiny: Dataset, claimed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tiny.splits["train"]
    np.save(tmp_path / "features.npy", train.images.take(np.arange(len(train.images))))
    on_disk = ImageFeatures([np.load(tmp_path / "features.npy", mmap_mode="r")])
    view = TrainingView(on_disk, train.captions, claimed, torch.device("cpu"))
    monkeypatch.setattr("ncbench.data.training_view.READ_AHEAD", 1)
    with (tmp_path / "features.npy").open("r+b") as opened:
        opened.truncate(100)
    with pytest.raises(UserError, match="truncated while in use"):
        list(view.batches(7, derive_rng(0, "order")))
