"""Similarity matrices of splits equal one direct forward pass, whatever the blocks."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from reports import Reported

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import BACKBONES, build_backbone
from ncbench.data.dataset import Captions, Dataset, Split
from ncbench.errors import UserError
from ncbench.evaluation import scoring
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.runtime import memory

CPU = torch.device("cpu")


def make(name: str, dataset: Dataset, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), embed=8, similarity=4, word=5)
    return build_backbone(name, sizes)


def direct(net: Backbone, split: Split) -> np.ndarray:
    tokens, lengths = split.captions.padded(np.arange(len(split.captions)))
    images = torch.from_numpy(split.images.take(np.arange(len(split.images))))
    with torch.no_grad():
        return net.eval()(images, torch.from_numpy(tokens), torch.from_numpy(lengths)).numpy()


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("split", ["train", "test"])
def test_equals_one_forward_pass(name: str, split: str, tiny: Dataset) -> None:
    net = make(name, tiny)
    found = similarity_matrix([net], tiny.splits[split], CPU)
    assert found.dtype == np.float32
    assert len(set(tiny.splits[split].captions.lengths)) > 1  # or sorting the captions would not be tested
    np.testing.assert_allclose(found, direct(net, tiny.splits[split]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize(("at_once", "scored_bytes"), [(1, 1), (3, 20_000), (1000, 1), (5, 2**30)])
def test_blocks_do_not_matter(
    name: str, at_once: int, scored_bytes: int, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, split = make(name, tiny), tiny.splits["test"]
    expected = direct(net, split)
    monkeypatch.setattr(scoring, "ENCODE_BATCH_SIZE", at_once)
    monkeypatch.setattr(scoring, "CPU_BLOCK_BYTES", scored_bytes)
    np.testing.assert_allclose(similarity_matrix([net], split, CPU), expected, rtol=0, atol=1e-6)


def test_blocks_bound_what_is_scored_at_once(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    net, split = make("sgr", tiny), tiny.splits["test"]
    blocks = []
    score = net.score

    def watch(images: object, captions: object) -> object:
        blocks.append((len(images), len(captions)))
        return score(images, captions)

    monkeypatch.setattr(net, "score", watch)
    monkeypatch.setattr(scoring, "ENCODE_BATCH_SIZE", 5)
    longest = int(split.captions.lengths.max())
    monkeypatch.setattr(net, "caption_bytes", lambda length: 1)  # or captions would be encoded one by one
    monkeypatch.setattr(scoring, "CPU_BLOCK_BYTES", 15 * net.pair_bytes(3, longest))
    similarity_matrix([net], split, CPU)
    assert max(images * captions for images, captions in blocks) <= 16
    assert sum(images * captions for images, captions in blocks) == 8 * 16


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_threads_change_nothing(name: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    net, split = make(name, tiny), tiny.splits["train"]
    monkeypatch.setattr(scoring, "CPU_BLOCK_BYTES", 1)  # one image at a time, so that there is work for each thread
    before = torch.get_num_threads()
    workers: set[int] = set()
    both_at_work = threading.Barrier(2)
    score = net.score

    def watch(images: object, captions: object) -> object:
        assert not torch.is_grad_enabled()
        if threading.current_thread() is not threading.main_thread() and len(workers) < 2:
            workers.add(threading.get_ident())
            both_at_work.wait(timeout=60)  # fails unless a second thread scores at the same time
        return score(images, captions)

    monkeypatch.setattr(net, "score", watch)
    try:
        torch.set_num_threads(1)
        alone = similarity_matrix([net], split, CPU)
        assert not workers
        torch.set_num_threads(2)
        together = similarity_matrix([net], split, CPU)
        assert len(workers) == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_scarce_memory_makes_smaller_blocks_of_the_same_similarities(
    name: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, split = make(name, tiny), tiny.splits["test"]
    expected = direct(net, split)
    longest = int(split.captions.lengths.max())
    needed = max(net.pair_bytes(3, longest), net.caption_bytes(longest))
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    encoded: list[int] = []
    encode = net.encode_images
    monkeypatch.setattr(net, "encode_images", lambda images: encoded.append(len(images)) or encode(images))
    np.testing.assert_allclose(similarity_matrix([net], split, CPU), expected, rtol=0, atol=1e-6)
    assert max(encoded) <= max(1, needed // scoring.FREE_MEMORY_DIVISOR // net.image_bytes(3))
    assert sum(encoded) == len(split.images)


def test_a_caption_that_does_not_fit_is_named(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = Captions(["short", "long"], [[1, 2], [1] * 1000 + [2]])
    split = Split(tiny.splits["test"].images, captions, np.array([0, 1]))
    net = make("sgr", tiny)
    monkeypatch.setattr(memory, "available_bytes", lambda: 200_000)
    with pytest.raises(UserError, match=r"^caption 1 of the split has 1001 tokens and needs 0\.0 GiB of memory"):
        similarity_matrix([net], split, CPU)
    monkeypatch.undo()
    assert np.isfinite(similarity_matrix([net], split, CPU)).all()  # though longer than any caption of the dataset


def test_a_matrix_that_does_not_fit_is_refused(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(UserError, match=r"^the similarities of 8 images and 16 captions need 0\.0 GiB of memory"):
        similarity_matrix([make("vse", tiny)], tiny.splits["test"], CPU)


def test_backbones_are_averaged(tiny: Dataset) -> None:
    nets, split = [make("saf", tiny, 0), make("saf", tiny, 1), make("vse", tiny, 2)], tiny.splits["dev"]
    expected = sum(direct(net, split).astype(np.float64) for net in nets) / 3
    np.testing.assert_allclose(similarity_matrix(nets, split, CPU), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_modes_state_and_gradients_are_left_alone(name: str, tiny: Dataset) -> None:
    training, evaluating = make(name, tiny).train(), make(name, tiny).eval()
    before = {key: value.clone() for key, value in training.state_dict().items()}
    similarity_matrix([training, evaluating], tiny.splits["dev"], CPU)
    assert all(module.training for module in training.modules())
    assert not any(module.training for module in evaluating.modules())
    assert all(torch.equal(value, before[key]) for key, value in training.state_dict().items())
    assert all(weight.grad is None for weight in training.parameters())


def test_work_is_reported_without_gradients(tiny: Dataset) -> None:
    net, split = make("sgr", tiny), tiny.splits["dev"]
    net.on_work = seen = Reported()
    similarity_matrix([net], split, CPU)
    lengths = split.captions.lengths.tolist()
    pairs = sum(8 * net.pair_work(3, length) for length in lengths)
    assert sum(seen) == 8 * net.image_work(3) + sum(map(net.caption_work, lengths)) + pairs
