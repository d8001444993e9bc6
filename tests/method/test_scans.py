"""Passes over all pairs that measure each within its batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ncbench import TrainingView
from ncbench.data.dataset import Dataset
from ncbench.method import losses
from ncbench.method.scans import pair_losses, scan
from ncbench.runtime.seeds import derive_rng


class Table(nn.Module):
    """Scores captions by a table of its own, image by image; notes its mode."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scores = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed))
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return images.sum(1) @ self.scores @ nn.functional.one_hot(tokens % 6, 6).float().sum(1).T / 10


@pytest.fixture
def view(tiny: Dataset) -> TrainingView:
    train = tiny.splits["train"]
    return TrainingView(train.images, train.captions, train.true, torch.device("cpu"))


def test_every_pair_is_measured_in_its_batch(view: TrainingView) -> None:
    networks = [Table(0), Table(1)]
    found = pair_losses(networks, view, 47, derive_rng(5), margin=0.2)
    assert (found.shape, found.dtype) == ((2, 48), np.float64)
    order = derive_rng(5).permutation(48)
    batch = view.batch(order[:47])
    for network, row in zip(networks, found, strict=True):
        assert network.modes == [(False, False)]
        expected = losses.pair_losses(network(*batch.inputs), 0.2)
        np.testing.assert_allclose(row[order[:47]], expected.numpy(), rtol=1e-6)
        # One pair is left over. A loss of 0 would make it the cleanest of all.
        assert row[order[47]] == pytest.approx(row[order[:47]].mean())
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize(("size", "batches"), [(48, 1), (16, 3), (47, 1)])
def test_batches_and_pairs_left_over(size: int, batches: int, view: TrainingView) -> None:
    network = Table(0)
    measure: Callable[[Tensor], Tensor] = lambda similarities: torch.full((len(similarities),), 2.0)  # noqa: E731
    (found,) = scan([network], view, size, derive_rng(0), measure)
    assert len(network.modes) == batches
    assert np.isnan(found).sum() == 48 - batches * size
    assert np.nanmin(found) == np.nanmax(found) == 2
