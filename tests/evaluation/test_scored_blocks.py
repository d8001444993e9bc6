"""Blocks that networks score are those of the similarity matrix, bit for bit, every time that they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.data.dataset import Dataset
from ncbench.evaluation import scored_blocks, scoring
from ncbench.evaluation.blocked import rank_blocks
from ncbench.evaluation.blocks import Blocks
from ncbench.evaluation.outcome import outcome_of
from ncbench.evaluation.scored_blocks import ScoredBlocks, too_large
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.evaluation.unfinished import Unfinished
from ncbench.training.blind_scoring import Renumbered, score_blindly
from ncbench.training.numbering import Numbering

CPU = torch.device("cpu")


def make(name: str, dataset: Dataset, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    sizes = Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), embed=8, similarity=4, word=5)
    return build_backbone(name, sizes).train()


def whole(blocks: Blocks) -> np.ndarray:
    found = np.full(blocks.shape, np.nan, np.float32)
    for block in blocks:
        place = np.ix_(block.images, block.captions)
        assert np.isnan(found[place]).all()  # nothing is scored twice
        found[place] = block.scores
    return found


@pytest.mark.parametrize("names", [["vse"], ["sgr"], ["sgr", "saf"], ["vse", "vse", "vse"]])
@pytest.mark.parametrize("block_bytes", [1, 40_000, 2**27])
def test_as_the_matrix(names: list[str], block_bytes: int, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CPU_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(scoring, "ENCODE_BATCH_SIZE", 7)
    nets, split = [make(name, tiny, seed) for seed, name in enumerate(names)], tiny.splits["test"]
    blocks = ScoredBlocks(nets, split, CPU)
    found, expected = whole(blocks), similarity_matrix(nets, split, CPU)
    if len(set(names)) == 1:
        np.testing.assert_array_equal(found, expected)
    else:  # blocks fit the larger of the networks
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    monkeypatch.setattr(scoring, "free_bytes", lambda device: 10**6)  # memory that is free later does not matter
    assert whole(blocks).tobytes() == found.tobytes()
    assert all(net.training for net in nets)


def test_images_that_do_not_fit_into_memory_together(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    net, split = make("vse", tiny), tiny.splits["test"]
    monkeypatch.setattr(scoring, "free_bytes", lambda device: 4 * 3 * net.image_bytes(3))
    monkeypatch.setattr(scoring, "_chunk_bytes", lambda *_: 0)
    blocks = ScoredBlocks([net], split, CPU)
    assert max(len(block.images) for block in blocks) <= 3 < blocks.shape[0]
    np.testing.assert_allclose(whole(blocks), similarity_matrix([net], split, CPU), rtol=0, atol=1e-6)


def test_large_splits_are_scored_blindly_in_blocks(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    split, calls, checks = tiny.splits["test"], [], []

    class Method:
        def call(self, function, *args):
            calls.append(function)
            return function(*args)

    def score(unfinished: Unfinished | None = None):
        return score_blindly(Method(), [make("sgr", tiny)], split, CPU, "digest", unfinished)  # type: ignore[arg-type]

    assert not too_large(split)
    matrix = score()
    monkeypatch.setattr(scored_blocks, "MAX_MATRIX_BYTES", matrix.nbytes - 1)
    assert too_large(split)
    monkeypatch.setattr("ncbench.training.blind_scoring.similarity_matrix", None)
    calls.clear()
    blocks = score(Unfinished(None, lambda: checks.append(1)))  # type: ignore[arg-type]
    assert isinstance(blocks, Renumbered)
    assert whole(blocks).tobytes() == matrix.tobytes()
    assert len(calls) > len(checks) > 0
    # The networks see other numbers than the records.
    images = Numbering.draw(*matrix.T.shape, 0, "digest").images
    assert next(iter(blocks)).images.tolist() == images[: len(next(iter(blocks)).images)].tolist()
    one, other = outcome_of(blocks, split.true), outcome_of(matrix, split.true)
    np.testing.assert_array_equal(one.whole.i2t[0], other.whole.i2t[0])
    np.testing.assert_array_equal(one.whole.t2i[0], other.whole.t2i[0])
    np.testing.assert_array_equal(one.retrieved.i2t, other.retrieved.i2t)
    np.testing.assert_array_equal(one.retrieved.t2i, other.retrieved.t2i)


def test_reading_can_be_interrupted(tiny: Dataset) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    net = make("vse", tiny)
    with pytest.raises(KeyboardInterrupt):
        rank_blocks(ScoredBlocks([net], tiny.splits["test"], CPU, stop), tiny.splits["test"].true)
    assert net.training
