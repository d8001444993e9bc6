"""What torch does in the timed comparison is what ours does."""

from __future__ import annotations

import torch
from default_update import torchs_mean_states, torchs_sort
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from ncbench.backbones.descending import sort_descending
from ncbench.backbones.recurrent import mean_states


def test_both_ways_compute_the_same() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(3, 5, 3), torch.tensor([2, 5, 3]), batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(torchs_mean_states(gru, packed), mean_states(gru, packed))
    values = torch.randn(4, 7)
    assert torch.equal(torchs_sort(values), sort_descending(values))
