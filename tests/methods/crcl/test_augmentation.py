"""Augmented captions and regions of CRCL."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from epochs import train_epochs
from set_up import set_up_crcl

from ncbench import Batch, Task
from ncbench.data.dataset import Dataset
from ncbench_methods import crcl

MakeTask = Callable[..., Task]


def batch_of(lengths: list[int], vocabulary: int = 1000) -> Batch:
    """Return captions of words from the upper half of a vocabulary."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(vocabulary // 2, vocabulary, (len(lengths), max(lengths)))
    tokens[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = 0
    return Batch(np.arange(len(lengths)), torch.zeros(0), torch.from_numpy(tokens), torch.tensor(lengths))


def test_what_becomes_of_tokens() -> None:
    before = batch_of([40] * 2000)
    after = crcl.change_tokens(before, 0.2, 500, np.random.default_rng(1))  # random words: the lower half
    assert torch.equal(before.tokens, batch_of([40] * 2000).tokens)
    left = after.tokens[after.tokens > 0]
    n = 80_000
    shares = {
        "unknown": (left == 3).sum().item() / n,
        "random": ((left < 500) & (left != 3)).sum().item() / n,
        "deleted": 1 - after.lengths.sum().item() / n,
    }
    assert shares == pytest.approx({"unknown": 0.1, "random": 0.02, "deleted": 0.08}, abs=4e-3)
    assert len(left[(left < 500) & (left != 3)].unique()) > 450  # all words, alike
    inside = torch.arange(after.tokens.shape[1]) < after.lengths[:, None]
    assert (after.tokens[~inside] == 0).all()
    assert after.tokens.shape[1] == after.lengths.max()
    assert (after.tokens.dtype, after.lengths.dtype) == (torch.int64, torch.int64)
    # Changes come one by one: the variance of the deleted tokens per caption is that of a binomial distribution.
    assert (40 - after.lengths).double().var().item() == pytest.approx(40 * 0.08 * 0.92, rel=0.15)


def test_words_stay_in_their_order() -> None:
    before = batch_of([3, 60, 1, 30] * 50)
    after = crcl.change_tokens(before, 0.5, 500, np.random.default_rng(2))
    shorter = 0
    for old, new, length in zip(before.tokens.tolist(), after.tokens.tolist(), after.lengths.tolist(), strict=True):
        words = iter(old)
        assert all(word in words for word in new[:length] if word >= 500)  # a subsequence
        assert length >= 1
        shorter += length < sum(word > 0 for word in old)
    assert shorter > 50


def test_every_place_is_changed_alike_marks_included() -> None:
    before = batch_of([4] * 20_000)
    after = crcl.change_tokens(before, 0.2, 500, np.random.default_rng(3))
    whole = after.lengths == 4
    changed = (after.tokens[whole] != before.tokens[whole]).double().mean(0)
    np.testing.assert_allclose(changed, 0.12 / 0.92, atol=0.01)


def test_no_caption_is_lost() -> None:
    before = batch_of([1, 2, 3] * 2000)
    after = crcl.change_tokens(before, 1.0, 500, np.random.default_rng(4))
    assert after.lengths.min() == 1
    kept = after.tokens[:, 0] >= 500
    # Of single tokens 40 % would be deleted, of two 16 %, of three 6.4 %: those captions keep their first.
    np.testing.assert_allclose([kept[n::3].double().mean() for n in range(3)], [0.4, 0.16, 0.064], atol=0.03)
    assert torch.equal(after.tokens[kept, 0], before.tokens[kept, 0])
    assert (after.lengths[kept] == 1).all()


def test_a_rate_of_zero_changes_nothing() -> None:
    before = batch_of([3, 5, 1])
    after = crcl.change_tokens(before, 0.0, 500, np.random.default_rng(0))
    assert torch.equal(after.tokens, before.tokens)
    assert torch.equal(after.lengths, before.lengths)
    assert after.images is before.images
    images = torch.rand(3, 4, 2)
    assert torch.equal(crcl.drop_regions(images, 0.0, np.random.default_rng(0)), images)


def test_regions_are_dropped_in_a_copy() -> None:
    images = torch.rand(500, 36, 5) + 1
    before = images.clone()
    after = crcl.drop_regions(images, 0.2, np.random.default_rng(5))
    assert torch.equal(images, before)
    dropped = (after == 1e-10).all(2)
    assert torch.equal(after[~dropped], images[~dropped])
    assert dropped.double().mean().item() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(dropped.double().mean(0), 0.2, atol=0.08)
    assert dropped.sum(1).double().var().item() == pytest.approx(36 * 0.2 * 0.8, rel=0.2)


def test_the_data_set_stays_as_it_is(tiny: Dataset, make_task: MakeTask) -> None:
    train_split = tiny.splits["train"]
    images, (tokens, lengths) = train_split.images.take(np.arange(24)), train_split.captions.padded(np.arange(48))
    method = set_up_crcl(make_task(), change=0.9, drop=0.9)
    list(train_epochs(method, range(5)))
    np.testing.assert_array_equal(train_split.images.take(np.arange(24)), images)
    np.testing.assert_array_equal(train_split.captions.padded(np.arange(48))[0], tokens)
    np.testing.assert_array_equal(train_split.captions.padded(np.arange(48))[1], lengths)


def test_numbers_of_vectors_are_dropped_in_a_copy() -> None:
    vectors = torch.ones(50, 40)
    found = crcl.drop_numbers(vectors, 0.3, np.random.default_rng(0))
    assert (vectors == 1).all()
    assert set(found.unique().tolist()) == {np.float32(crcl.DROPPED).item(), 1.0}
    assert (found != 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
