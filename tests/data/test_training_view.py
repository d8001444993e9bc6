"""The training view: claimed pairs in batches, nothing of the truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from ncbench import Batch, TrainingView, UserError
from ncbench.data.dataset import Dataset, ImageFeatures
from ncbench.data.training_view import Batches
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
        "claimed",
        "endless_batches",
        "images",
        "load_state_dict",
        "n_images",
        "new_epoch",
        "recording",
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
    assert all(
        part is whole for part, whole in zip(batch.inputs, (batch.images, batch.tokens, batch.lengths), strict=True)
    )
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


def pairs_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.pairs.tolist() for batch in batches]


def test_epochs_of_one_generator_differ(view: TrainingView) -> None:
    rng = derive_rng(0)
    first, second = (np.concatenate([b.pairs for b in view.batches(8, rng)]).tolist() for _ in range(2))
    assert first != second


def test_nothing_is_drawn_before_the_first_batch(view: TrainingView) -> None:
    rng = derive_rng(0)
    before = rng.bit_generator.state
    batches = [view.batches(8, rng), view.endless_batches(8, rng)]
    assert rng.bit_generator.state == before
    for found in batches:
        next(found)
        assert rng.bit_generator.state != before
        before = rng.bit_generator.state
    assert len(list(batches[0])) == 5
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("drop_last", [False, True])
def test_endless_batches_are_passes_one_after_the_other(view: TrainingView, drop_last: bool) -> None:
    rng, other, pairs = derive_rng(0), derive_rng(0), np.arange(19)
    endless = view.endless_batches(8, rng, pairs, drop_last=drop_last)
    passes = [pairs_of(view.batches(8, other, pairs, drop_last=drop_last)) for _ in range(3)]
    for expected in passes:
        assert [next(endless).pairs.tolist() for _ in expected] == expected
    assert rng.bit_generator.state == other.bit_generator.state  # the next pass is not drawn before it is needed


@pytest.mark.parametrize(("n_pairs", "drop_last"), [(0, False), (1, False), (7, True)])
def test_endless_batches_of_too_few_pairs(view: TrainingView, n_pairs: int, drop_last: bool) -> None:
    rng = derive_rng(0)
    before = rng.bit_generator.state
    assert list(view.endless_batches(8, rng, np.arange(n_pairs), drop_last=drop_last)) == []
    assert rng.bit_generator.state == before


def test_a_resumed_epoch_continues_its_batches_in_the_order_of_their_creation(view: TrainingView) -> None:
    rng, other, late = derive_rng(0), derive_rng(1), derive_rng(2)

    def created() -> list[Batches]:
        return [
            view.batches(8, rng),
            view.batches(10, other, np.arange(30), drop_last=True),
            view.batches(8, late),
            view.endless_batches(8, other, np.arange(20)),
        ]

    view.new_epoch()
    with view.recording():
        first = created()
    scanned = view.batches(8, rng)  # not part of the epoch
    for batches, count in zip([*first, scanned], (2, 3, 0, 4, 1), strict=True):
        for _ in range(count):
            next(batches)
    state = capture(view.state_dict())
    draws = {generator: generator.bit_generator.state for generator in (rng, other, late)}
    assert [None if left is None else len(left) for left in state["batches"]] == [32, 0, None, 12]
    expected = [*map(pairs_of, first[:3]), [next(first[3]).pairs.tolist() for _ in range(9)]]

    view.new_epoch()
    view.load_state_dict(state)
    for generator, drawn in draws.items():
        generator.bit_generator.state = drawn
    assert len(list(view.batches(8, derive_rng(3)))) == 6  # not part of the epoch either
    with view.recording():
        again = created()
    assert {generator: generator.bit_generator.state for generator in draws} == draws
    assert [*map(pairs_of, again[:3]), [next(again[3]).pairs.tolist() for _ in range(9)]] == expected
    assert [len(batches) for batches in expected] == [4, 0, 6, 9]
    with view.recording():
        assert len(list(view.batches(8, rng))) == 6  # one more than were saved
    view.new_epoch()
    assert view.state_dict() == {"batches": []}


def test_batches_that_are_not_created_again_yet_stay_in_the_state(view: TrainingView) -> None:
    view.new_epoch()
    with view.recording():
        for batches in (view.batches(8, derive_rng(0)), view.batches(8, derive_rng(1))):
            next(batches)
    state = capture(view.state_dict())
    view.load_state_dict(state)
    with view.recording():
        next(view.batches(8, derive_rng(0)))
    assert [len(left) for left in view.state_dict()["batches"]] == [32, 40]


def test_batches_that_are_read_ahead_are_the_same(
    tiny: Dataset, claimed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tiny.splits["train"]
    np.save(tmp_path / "features.npy", train.images.take(np.arange(len(train.images))))
    on_disk = ImageFeatures([np.load(tmp_path / "features.npy", mmap_mode="r")])
    plain, ahead = (
        TrainingView(images, train.captions, claimed, torch.device("cpu")) for images in (train.images, on_disk)
    )
    monkeypatch.setattr("ncbench.data.training_view.MIN_NUMBERS_TO_PREFETCH", 1)
    batches = [list(view.batches(7, derive_rng(0, "order"))) for view in (plain, ahead)]
    assert len(batches[0]) == len(batches[1]) == 7
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.tokens, other.tokens)
        assert np.array_equal(one.pairs, other.pairs)
    # A batch that was read ahead is not taken yet: a checkpoint resumes before it.
    ahead.new_epoch()
    with ahead.recording():
        next(ahead.batches(7, derive_rng(0, "order")))
    ahead.load_state_dict(ahead.state_dict())
    with ahead.recording():
        rest = list(ahead.batches(7, derive_rng(9, "other")))
    assert [batch.pairs.tolist() for batch in rest] == [batch.pairs.tolist() for batch in batches[0][1:]]


def test_what_fails_while_it_is_read_ahead_is_raised(
    tiny: Dataset, claimed: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tiny.splits["train"]
    np.save(tmp_path / "features.npy", train.images.take(np.arange(len(train.images))))
    on_disk = ImageFeatures([np.load(tmp_path / "features.npy", mmap_mode="r")])
    view = TrainingView(on_disk, train.captions, claimed, torch.device("cpu"))
    monkeypatch.setattr("ncbench.data.training_view.MIN_NUMBERS_TO_PREFETCH", 1)
    with (tmp_path / "features.npy").open("r+b") as opened:
        opened.truncate(100)
    with pytest.raises(UserError, match="truncated while in use"):
        list(view.batches(7, derive_rng(0, "order")))
