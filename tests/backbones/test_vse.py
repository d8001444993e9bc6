"""VSE against a loop over captions."""

from __future__ import annotations

import pytest
import torch

from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import build_backbone

LENGTHS = [4, 1, 6, 2]


@pytest.mark.parametrize("n_regions", [1, 3])
def test_cosine_of_the_mean_region_and_the_last_state(n_regions: int) -> None:
    torch.manual_seed(0)
    net = build_backbone("vse", Sizes(image_dim=5, n_regions=n_regions, vocabulary=9, embed=6, word=3)).double()
    torch.nn.init.uniform_(net.project.bias)
    images = torch.randn(3, n_regions, 5, dtype=torch.float64)
    tokens = torch.randint(0, 9, (4, 6))
    found = net(images, tokens, torch.tensor(LENGTHS))
    for column, length in enumerate(LENGTHS):
        state = torch.zeros(6, dtype=torch.float64)
        for token in tokens[column, :length]:
            state = gru_cell(net.gru, net.embedding.weight[token], state)
        for row in range(3):
            # Averaging after the linear map is the same.
            image = torch.stack([net.project(region) for region in images[row]]).mean(0)
            expected = image @ state / (image.norm() * state.norm())
            assert found[row, column].item() == pytest.approx(expected.item(), abs=1e-7)


def gru_cell(gru: torch.nn.GRU, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    of_x = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
    of_h = (gru.weight_hh_l0 @ h + gru.bias_hh_l0).chunk(3)
    reset, update = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
    return (1 - update) * torch.tanh(of_x[2] + reset * of_h[2]) + update * h
