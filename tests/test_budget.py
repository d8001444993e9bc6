"""The work meter and the unit of the budget."""

from __future__ import annotations

import pytest
import torch
from reports import Reported

from ncbench.backbones import BACKBONES, build_backbone
from ncbench.backbones.base import Backbone, Sizes
from ncbench.budget import FORWARD_AND_BACKWARD, BudgetSpent, WorkMeter, baseline_epoch_work
from ncbench.data.dataset import Captions, Dataset


def test_meter_counts_up_to_the_total() -> None:
    meter = WorkMeter(10)
    assert (meter.total, meter.used, meter.progress) == (10, 0, 0.0)
    meter.charge(4)
    assert (meter.used, meter.progress) == (4, 0.4)
    meter.charge(6)
    assert (meter.used, meter.progress) == (10, 1.0)
    meter.charge(0)


def test_meter_refuses_what_does_not_fit_and_counts_nothing_then() -> None:
    meter = WorkMeter(10)
    meter.charge(7)
    with pytest.raises(BudgetSpent):
        meter.charge(4)
    assert meter.used == 7
    meter.charge(3)  # a smaller piece still fits
    with pytest.raises(BudgetSpent):
        meter.charge(1)


@pytest.mark.parametrize("total", [0, -1])
def test_meter_of_nothing(total: int) -> None:
    with pytest.raises(ValueError, match=f"^the total must be positive, found {total}$"):
        WorkMeter(total)


def test_paused_meter_counts_nothing() -> None:
    meter = WorkMeter(10)
    meter.charge(9)
    with meter.paused():
        meter.charge(1000)
        with meter.paused():
            meter.charge(1000)
        meter.charge(1000)  # the inner end does not end the outer pause
    assert meter.used == 9
    with pytest.raises(BudgetSpent):
        meter.charge(2)


def test_pause_ends_with_an_exception() -> None:
    meter = WorkMeter(10)
    with pytest.raises(KeyError), meter.paused():
        raise KeyError
    meter.charge(1)
    assert meter.used == 1


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("batch_size", [1, 5, 8, 48, 1000])
def test_baseline_epoch_is_the_sum_over_its_batches(name: str, batch_size: int, tiny: Dataset) -> None:
    net = build_backbone(name, Sizes(6, 3, 10, embed=16, similarity=8, word=8))
    captions = tiny.splits["train"].captions
    lengths, total = captions.lengths.tolist(), 0
    while lengths:
        batch, lengths = lengths[:batch_size], lengths[batch_size:]
        total += 3 * sum(net.image_work(3) + net.caption_work(length) for length in batch)
        total += 3 * sum(net.pair_work(3, length) for _ in batch for length in batch)
    assert baseline_epoch_work(net, captions, batch_size) == total


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_baseline_epoch_is_what_an_epoch_of_training_reports(name: str, tiny: Dataset) -> None:
    net: Backbone = build_backbone(name, Sizes(6, 3, 10, embed=16, similarity=8, word=8))
    captions = tiny.splits["train"].captions
    net.on_work = seen = Reported()
    for start in range(0, 48, 8):
        tokens, lengths = captions.padded(torch.arange(start, start + 8).numpy())
        net(torch.randn(8, 3, 6), torch.from_numpy(tokens), torch.from_numpy(lengths))
    assert sum(seen) == baseline_epoch_work(net, captions, 8)


def test_forward_and_backward_is_what_backbones_report() -> None:
    net = build_backbone("vse", Sizes(6, 3, 10, embed=16, word=8))
    net.on_work = seen = Reported()
    net.encode_images(torch.zeros(1, 3, 6))
    assert seen == [FORWARD_AND_BACKWARD * net.image_work(3)]


def test_no_captions_no_work() -> None:
    assert baseline_epoch_work(build_backbone("vse", Sizes(6, 3, 10)), Captions([], []), 8) == 0
