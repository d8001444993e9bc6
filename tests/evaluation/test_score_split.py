"""`score_split`: the whole matrix, in blocks, under a function or a module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ncbench
from ncbench import ArgumentError
from ncbench.data.dataset import Dataset


class Towers(nn.Module):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Linear(dataset.image_dim, 4)
        self.words = nn.EmbeddingBag(len(dataset.vocabulary), 4, padding_idx=0)
        self.drop = nn.Dropout(0.5)
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        assert len(tokens) == len(lengths)
        self.sizes.append((len(images), len(tokens)))
        found: Tensor = self.drop(self.images(images).mean(1)) @ self.words(tokens).T
        return found


@pytest.mark.parametrize(("images", "captions"), [(512, 512), (3, 5), (1, 16), (8, 1)])
def test_blocks_give_the_matrix(tiny: Dataset, images: int, captions: int) -> None:
    network, split = Towers(tiny), tiny.splits["test"]
    network.drop.eval()
    found = ncbench.score_split(network, split, images_at_once=images, captions_at_once=captions)
    tokens, lengths = map(torch.from_numpy, split.captions.padded(np.arange(16)))
    with torch.no_grad():
        whole = network.eval()(torch.from_numpy(split.images.take(np.arange(8))), tokens, lengths)
    assert torch.allclose(found, whole, atol=1e-6)
    assert max(network.sizes[:-1]) <= (images, captions)
    assert not found.requires_grad
    assert ncbench.evaluate(found, split.true).rsum > 0


def test_modules_keep_their_mode(tiny: Dataset) -> None:
    network = Towers(tiny).train()
    network.words.eval()
    one, other = (ncbench.score_split(network, tiny.splits["dev"]) for _ in range(2))
    assert torch.equal(one, other)  # without dropout
    assert network.drop.training
    assert not network.words.training


def test_functions_of_any_precision(tiny: Dataset) -> None:
    found = ncbench.score_split(
        lambda images, tokens, lengths: torch.ones(len(images), len(tokens), dtype=torch.bfloat16), tiny.splits["dev"]
    )
    assert found.dtype == torch.float32
    assert found.tolist() == [[1.0] * 16] * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 3}, "score: expected a module or function of (images, tokens, lengths), found 3"),
        (
            {"score": lambda *_: torch.ones(3)},
            "score: expected similarities (images, captions) (8, 16), it returned (3,)",
        ),
        ({"score": lambda *_: None}, "score: expected similarities (images, captions) (8, 16), it returned NoneType"),
        ({"split": "test"}, 'split: expected a split, such as dataset.splits["test"], found str'),
        ({"images_at_once": 0}, "images_at_once: expected at least 1, found 0"),
        ({"captions_at_once": -1}, "captions_at_once: expected at least 1, found -1"),
    ],
)
def test_bad_arguments(tiny: Dataset, change: dict[str, Any], message: str) -> None:
    words = {"score": Towers(tiny), "split": tiny.splits["dev"], **change}
    with pytest.raises(ArgumentError) as caught:
        ncbench.score_split(**words)
    assert str(caught.value) == message
