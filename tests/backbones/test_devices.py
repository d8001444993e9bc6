"""Every backbone on every available device, against the CPU."""

from __future__ import annotations

import copy

import pytest
import torch

from ncbench import losses
from ncbench.backbones.base import Sizes
from ncbench.backbones.registry import BACKBONES, build_backbone

PRESENT = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
DEVICES = [
    pytest.param(name, marks=pytest.mark.skipif(not present, reason=f"there is no {name} here"))
    for name, present in PRESENT.items()
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_scores_and_gradients_are_those_of_the_cpu(name: str, device: str) -> None:
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(12, 5, 20, embed=16, similarity=8, word=10, dropout=0.0))
    there = copy.deepcopy(net).to(device)
    images, tokens, lengths = torch.randn(3, 5, 12), torch.randint(1, 20, (3, 6)), torch.tensor([4, 6, 2])
    expected = net(images, tokens, lengths)
    found = there(images.to(device), tokens.to(device), lengths)
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)
    losses.hinge_mean(expected, 0.2).backward()
    losses.hinge_mean(found, 0.2).backward()
    for (key, ours), theirs in zip(there.named_parameters(), net.parameters(), strict=True):
        if theirs.grad is not None:
            message = f"gradient of {key}"
            torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-2, atol=1e-4, msg=message)
