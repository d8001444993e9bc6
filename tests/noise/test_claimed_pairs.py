"""Claimed pairs for anybody's training loop: what they hold, with workers, Lightning and accelerate; no truth."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import Source
from torch.utils.data import DataLoader, DistributedSampler

import ncbench
from ncbench import ArgumentError, ClaimedPairs, PairBatch, UserError, collate_pairs
from ncbench.checks.shapes import Shapes
from ncbench.data.dataset import CaptionVectors, Dataset, ImageFeatures, Split
from ncbench.noise.drawing import draw


@pytest.fixture
def pairs(tiny: Dataset) -> ClaimedPairs:
    return ClaimedPairs(tiny, ncbench.draw_noise(tiny, 0.4))


def loader(pairs: ClaimedPairs, **words: Any) -> DataLoader[Any]:
    return DataLoader(pairs, **{"batch_size": 5, "collate_fn": collate_pairs, **words})


def test_pairs_are_captions_with_the_images_that_they_claim(tiny: Dataset, pairs: ClaimedPairs) -> None:
    noise, train = ncbench.draw_noise(tiny, 0.4), tiny.splits["train"]
    assert len(pairs) == len(train.captions)
    assert np.array_equal(pairs.claimed, noise.claimed)
    assert 0 < noise.mismatch(train.true) < 1
    for number in (0, 7, len(pairs) - 1):
        pair = pairs[number]
        assert pair.pair == number
        assert np.array_equal(pair.image, train.images.take(noise.claimed[[number]])[0])
        assert np.array_equal(pair.tokens, train.captions.tokens(number))
    assert pairs[-1].pair == len(pairs) - 1
    with pytest.raises(IndexError):
        pairs[len(pairs)]
    with pytest.raises(ValueError, match="read-only"):
        pairs.claimed[0] = 1


def test_batches_are_those_of_the_harness(tiny: Dataset, pairs: ClaimedPairs) -> None:
    train = tiny.splits["train"]
    view = ncbench.TrainingView(train.images, train.captions, pairs.claimed, torch.device("cpu"))
    for batch in loader(pairs):
        assert isinstance(batch, PairBatch)
        ours = view.batch(batch.pairs.numpy())
        assert torch.equal(batch.images, ours.images)
        assert torch.equal(batch.tokens, ours.tokens)
        assert torch.equal(batch.lengths, ours.lengths)
        assert batch.images.dtype == torch.float32
        assert batch.tokens.dtype == batch.lengths.dtype == batch.pairs.dtype == torch.int64


def test_a_caption_with_spliced_words_is_as_methods_see_it(tiny: Dataset) -> None:
    noise = ncbench.draw_noise(tiny, 0.6, protocol="partial")
    assert noise.splices is not None
    changed = noise.seen(tiny.splits["train"].captions, tiny.vocabulary)
    caption = int(noise.splices.captions[0])
    assert np.array_equal(ClaimedPairs(tiny, noise)[caption].tokens, changed.tokens(caption))


def test_captions_that_are_vectors(make_dataset: Callable[..., Dataset], tiny: Dataset) -> None:
    vectors = np.random.default_rng(0).normal(size=(48, 7)).astype(np.float32)
    train = Split(tiny.splits["train"].images, CaptionVectors([""] * 48, vectors), tiny.splits["train"].true)
    pairs = ClaimedPairs(make_dataset(splits={**tiny.splits, "train": train}), ncbench.draw_noise(tiny, 0.4))
    batch = next(iter(loader(pairs)))
    assert np.array_equal(batch.tokens, vectors[:5])
    assert batch.lengths.tolist() == [1] * 5


def seen(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch.pairs.tolist()]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers(on_disk: ClaimedPairs, context: str) -> None:
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    expected = list(loader(on_disk, batch_size=16))
    found = list(loader(on_disk, batch_size=16, num_workers=2, multiprocessing_context=context))
    assert seen(found) == list(range(len(on_disk)))
    assert all(torch.equal(one.images, other.images) for one, other in zip(expected, found, strict=True))


@pytest.fixture
def on_disk(tiny: Dataset, make_dataset: Callable[..., Dataset], tmp_path: Path) -> ClaimedPairs:
    train = tiny.splits["train"]
    features = train.images.take(np.arange(24))
    np.save(tmp_path / "features.npy", np.concatenate([np.zeros_like(features[:3]), features]).astype(np.float16))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")[3:]
    images = ImageFeatures([mapped[:10], mapped[10:]])
    assert images.on_disk
    dataset = make_dataset(splits={**tiny.splits, "train": Split(images, train.captions, train.true)})
    return ClaimedPairs(dataset, ncbench.draw_noise(dataset, 0.4))


def test_a_copy_for_another_process_reads_the_file_there(on_disk: ClaimedPairs) -> None:
    written = pickle.dumps(on_disk)
    assert len(written) < 24 * 3 * 6 * 2 + 5000
    images = on_disk._images
    copy = pickle.loads(written)  # noqa: S301 - written above
    assert copy._images._files[0]._file != images._files[0]._file
    everything = np.arange(24)
    assert np.array_equal(copy._images.take(everything), images.take(everything))
    assert np.array_equal(copy._images._chunks[1], images._chunks[1])


def test_a_pickle_does_not_hold_what_is_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros((500, 4, 100), np.float32))
    images = ImageFeatures([np.load(tmp_path / "features.npy", mmap_mode="r")])
    assert len(pickle.dumps(images)) < 5000


def test_every_process_of_a_distributed_sampler_gets_its_part(pairs: ClaimedPairs) -> None:
    samplers = [DistributedSampler(pairs, num_replicas=2, rank=rank, shuffle=True) for rank in range(2)]
    parts = [seen(loader(pairs, sampler=sampler)) for sampler in samplers]
    assert sorted(parts[0] + parts[1]) == list(range(len(pairs)))


def test_nothing_of_it_tells_the_truth(tiny: Dataset, pairs: ClaimedPairs) -> None:
    truth = tiny.splits["train"].true
    for value in vars(pairs).values():
        assert value is not truth
        assert not (isinstance(value, np.ndarray) and np.array_equal(value, truth))


def test_the_noise_is_that_of_a_run(tiny: Dataset) -> None:
    for seed in (0, 3):
        assert ncbench.draw_noise(tiny, 0.4, seed=seed).digest == draw(tiny, "shuffle-images", 0.4, seed).digest
    assert ncbench.draw_noise(tiny, 0).protocol == "clean"
    assert ncbench.draw_noise(tiny, "0.4").ratio == 0.4


def test_the_noise_of_a_record_is_that_of_draw_noise(
    tiny: Dataset, tmp_path: Path, register: Callable[..., None]
) -> None:
    from toy_methods import Toy

    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.methods", "toy", Toy)
    ncbench.run("toy", 0.4, dataset="tiny", backbone="vse", budget=1, seed=2, out=tmp_path)
    (path,) = (tmp_path / "tiny" / "noise").glob("*.npy")
    assert path.stem == ncbench.draw_noise(tiny, 0.4, seed=2).digest[:12]


def test_load_dataset_takes_names_and_columns(register: Callable[..., None], tiny: Dataset, tmp_path: Path) -> None:
    source = Source(tiny)
    register("ncbench.datasets", "tiny", source)
    assert ncbench.load_dataset("tiny") is tiny
    assert ncbench.load_dataset("tiny", str(tmp_path)) is tiny
    assert source.roots == [None, tmp_path]


OTHER = Shapes(name="other", images={"train": 12, "dev": 4, "test": 4}, kinds=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tiny: ncbench.load_dataset(3), "name: expected the name of a dataset, such as 'scenes', found 3"),
        (lambda tiny: ncbench.load_dataset("scene"), "unknown dataset 'scene'. Did you mean 'scenes' or"),
        (lambda tiny: ncbench.load_dataset("scenes", captions="text"), "--captions needs --dataset hf:NAME_OR_PATH"),
        (lambda tiny: ncbench.load_dataset("scenes", dev_rule="ncr"), "--dev-rule is for datasets of released files"),
        (lambda tiny: ncbench.draw_noise("scenes"), "dataset: expected an ncbench.Dataset"),
        (lambda tiny: ncbench.draw_noise(tiny, 1.5), "1.5 is not a noise ratio"),
        (lambda tiny: ncbench.draw_noise(tiny, protocol=None), "protocol: expected the name of a noise protocol"),
        (lambda tiny: ncbench.draw_noise(tiny, protocol="shuffle"), "unknown noise protocol 'shuffle'"),
        (lambda tiny: ncbench.draw_noise(tiny, seed=-1), "seed -1 is not a non-negative integer"),
        (lambda tiny: ncbench.draw_noise(tiny, "natural"), "--noise natural is for datasets"),
        (lambda tiny: ClaimedPairs("scenes", None), "dataset: expected an ncbench.Dataset, found str"),
        (lambda tiny: ClaimedPairs(tiny, 0.4), "noise: expected what ncbench.draw_noise(dataset) returns, found float"),
        (
            lambda tiny: ClaimedPairs(OTHER.load(), ncbench.draw_noise(tiny)),
            "noise: drawn for 48 captions, but other has 24 training captions of 12 images",
        ),
        (lambda tiny: collate_pairs([]), "pairs: expected pairs of ncbench.ClaimedPairs, found no pair"),
        (lambda tiny: collate_pairs([1]), "pairs: expected pairs of ncbench.ClaimedPairs, found int"),
    ],
)
def test_bad_arguments(tiny: Dataset, make: Callable[[Dataset], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make(tiny)
    assert str(caught.value).startswith(message)


def test_argument_errors_are_of_both_kinds() -> None:
    assert issubclass(ArgumentError, UserError)
    assert issubclass(ArgumentError, ValueError)


def test_accelerate(pairs: ClaimedPairs) -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(loader(pairs))
    batches = list(prepared)
    assert seen(batches) == list(range(len(pairs)))
    assert all(isinstance(batch, PairBatch) for batch in batches)


def test_lightning(pairs: ClaimedPairs) -> None:
    pytest.importorskip("lightning_utilities")
    from lightning_utilities.core.apply_func import apply_to_collection

    batch = next(iter(loader(pairs)))
    moved = apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.to("meta"))  # as Lightning moves batches
    assert isinstance(moved, PairBatch)
    assert {tensor.device.type for tensor in moved} == {"meta"}
