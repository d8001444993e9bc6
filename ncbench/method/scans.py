"""Passes over all training pairs that measure each pair within a random batch, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncbench.method import losses

if TYPE_CHECKING:
    from ncbench.data.training_view import TrainingView


@torch.no_grad()
def scan(
    networks: Sequence[nn.Module],
    data: TrainingView,
    size: int,
    rng: np.random.Generator,
    measure: Callable[[Tensor], Tensor],
) -> NDArray[np.float64]:
    """Return (networks, pairs): what each network, in evaluation mode, finds for every pair in its batch.

    Batches of `size` pairs are drawn by `rng`, the same for all networks. `measure` maps the similarities (B, B) of a
    batch to values (B,). A pair that is alone in the last batch has no negatives and gets NaN.
    """
    for network in networks:
        network.eval()
    result = np.full((len(networks), len(data)), np.nan)
    for batch in data.batches(size, rng):
        for network, found in zip(networks, result, strict=True):
            found[batch.pairs] = measure(network(*batch.inputs)).cpu().numpy()
    return result


def pair_losses(
    networks: Sequence[nn.Module], data: TrainingView, size: int, rng: np.random.Generator, margin: float
) -> NDArray[np.float64]:
    """Return (networks, pairs): the loss of every pair in its batch, see `scan` and `ncbench.losses.pair_losses`.

    A pair that is alone in the last batch gets the mean of the others.
    """
    found = scan(networks, data, size, rng, lambda similarities: losses.pair_losses(similarities, margin))
    return np.where(np.isnan(found), np.nanmean(found, 1, keepdims=True), found)
