"""What torch does in the timed comparison is what ours does, work is counted once, and shares of a run add up."""

from __future__ import annotations

import time

import pytest
import torch
from default_regime import WHOLE, Shares, flops_of, parts_of, products_of, torchs_mean_states, torchs_sort
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


def test_products_at_hand_are_those_of_the_formulas() -> None:
    network = build_backbone("vse-infinity", Sizes(image_dim=75, n_regions=8, vocabulary=20, embed=64, word=32))
    lengths = torch.tensor([4, 6, 9, 3])
    batch = (torch.randn(4, 8, 75), torch.randint(4, 20, (4, 9)), lengths)
    products = sum(2 * m * k * n * count for (m, k, n), count in products_of(network, batch).items())
    features = 2 * 4 * 8 * 75 * (64 + 32)  # need no gradient, which formulas ignore
    assert 0.97 * flops_of(network, batch) < products + features <= flops_of(network, batch)


def test_parts_are_counted_without_the_parts_inside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    shares = Shares()
    inner = shares.inside("inner", lambda: work(2))
    shares.inside("outer", lambda: (work(1), inner(), inner()))()
    shares.inside(WHOLE, lambda: (work(10), inner()))()
    assert shares.seconds == {"inner": 4, "outer": 1, WHOLE: 12}


def test_of_updates_that_torch_counts_only_what_they_take_longer_is_a_share() -> None:
    shares = parts_of({"updates": 90, WHOLE: 60, "dev evaluation": 50, "of updates": 100, "counted": 10})
    assert shares == {"updates": 0.5, WHOLE: 0.25, "dev evaluation": 0.25}
