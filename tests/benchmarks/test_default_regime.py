"""What torch does in the timed comparison is what ours does."""

from __future__ import annotations

import torch
from default_regime import flops_of, torchs_mean_states, torchs_sort
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from ncbench.backbones.base import Sizes
from ncbench.backbones.descending import sort_descending
from ncbench.backbones.recurrent import mean_states
from ncbench.backbones.registry import build_backbone
from ncbench.training.audit import counting


def test_both_ways_compute_the_same() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(3, 5, 3), torch.tensor([2, 5, 3]), batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(torchs_mean_states(gru, packed), mean_states(gru, packed))
    values = torch.randn(4, 7)
    assert torch.equal(torchs_sort(values), sort_descending(values))


def test_the_work_of_an_update_is_nearly_what_torch_counts() -> None:
    torch.manual_seed(0)
    network = build_backbone("vse-infinity", Sizes(image_dim=75, n_regions=8, vocabulary=20, embed=64, word=32))
    lengths = torch.tensor([4, 6, 9, 3])
    batch = (torch.randn(4, 8, 75), torch.randint(4, 20, (4, 9)), lengths)
    _, counted = counting(lambda: network(*batch).sum().backward())
    assert 0.85 * counted < flops_of(network, batch) < 1.15 * counted
