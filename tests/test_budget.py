"""Budgets and meters."""

from __future__ import annotations

import re

import pytest
import torch
from reports import Reported

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import BACKBONES, build_backbone
from ncbench.budget import Budget, BudgetSpent, EpochMeter, Paper, TimeMeter, Unit, WorkMeter
from ncbench.data.dataset import Captions, Dataset
from ncbench.training.cost import FORWARD_AND_BACKWARD, baseline_epoch_work


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
        meter.charge(1000)  # leaving the inner block does not end the outer pause
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


@pytest.mark.parametrize(
    ("text", "amount", "unit", "said"),
    [
        ("5", 5.0, "epochs", "5"),
        (" 0.5 ", 0.5, "epochs", "0.5"),
        ("1e-1epochs-equiv", 0.1, "epochs", "0.1"),
        ("2e15flops", 2e15, "flops", "2e+15 FLOPs"),
        ("2E+15 FLOPs", 2e15, "flops", "2e+15 FLOPs"),
        ("90s", 90.0, "seconds", "90 s"),
        ("1.5m", 90.0, "seconds", "90 s"),
        ("2h", 7200.0, "seconds", "7200 s"),
        ("40own-epochs", 40.0, "own-epochs", "40 own epochs"),
    ],
)
def test_budgets_are_read_and_said(text: str, amount: float, unit: Unit, said: str) -> None:
    budget = Budget.parse(text)
    assert (budget, str(budget)) == (Budget(amount, unit), said)
    assert budget.matched == (unit != "own-epochs")


def test_the_budget_of_a_paper_is_said() -> None:
    assert str(Paper()) == "paper"


@pytest.mark.parametrize("text", ["", "x", "-1", "5d", "5 5", "1.2.3", "e5", "s", "nan", "inf", "5epochs", "5e", "+"])
def test_invalid_budgets(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{text!r} is not a valid budget. Use 5 (baseline epochs), ')}"):
        Budget.parse(text)


@pytest.mark.parametrize(("text", "found"), [("0", "0"), ("0h", "0"), ("1e400", "inf"), ("1e308h", "inf")])
def test_budgets_out_of_range(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"^a budget must be positive, found {found}$"):
        Budget.parse(text)


def test_own_epochs_are_whole() -> None:
    with pytest.raises(ValueError, match=r"^own-epochs must be an integer, found 2.5$"):
        Budget.parse("2.5own-epochs")


def test_every_meter_counts_passes() -> None:
    for meter in (WorkMeter(10), TimeMeter(10), EpochMeter(10)):
        meter.charge(3, pairs=4, samples=2)
        with meter.paused():
            meter.charge(3, pairs=4, samples=2)
        meter.charge(1, pairs=1)
        assert (meter.used, meter.pair_passes, meter.samples) == (4, 5, 2)


class Watch:
    """A clock that tests move forward."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def step(meter: TimeMeter, watch: Watch, seconds: float) -> None:
    meter.start()
    watch.time += seconds
    meter.charge(1)
    meter.stop()


def test_time_is_counted_from_start_to_stop_only() -> None:
    watch = Watch()
    meter = TimeMeter(10, watch)
    step(meter, watch, 2)
    watch.time += 1000  # evaluation
    assert (meter.progress, meter.spent) == (0.2, 2)
    meter.stop()  # a second call has no effect
    step(meter, watch, 3)
    assert (meter.progress, meter.spent, meter.used) == (0.5, 5, 2)


def test_a_step_begins_only_if_one_like_the_last_ones_would_fit() -> None:
    watch = Watch()
    meter = TimeMeter(10, watch)
    step(meter, watch, 4)  # steps start until two are known
    step(meter, watch, 1)
    step(meter, watch, 3.5)
    step(meter, watch, 1.25)  # 1.5 were left, and the shorter of the last two took 1
    with pytest.raises(BudgetSpent):
        step(meter, watch, 0.1)  # now 0.25 are left, and it took 1.25
    assert (meter.spent, meter.used) == (9.75, 4)


def test_no_pass_begins_after_the_end_of_the_time() -> None:
    watch = Watch()
    meter = TimeMeter(10, watch)
    meter.start()
    watch.time += 9.5
    meter.charge(5)
    watch.time += 1
    with pytest.raises(BudgetSpent):
        meter.charge(5)
    meter.stop()
    assert (meter.used, meter.spent, meter.progress) == (5, 10.5, 1.0)
    with pytest.raises(BudgetSpent):
        meter.start()


def test_epochs_are_counted_at_their_end() -> None:
    meter = EpochMeter(7)
    seen = []
    for _ in range(7):
        meter.start()
        meter.charge(10**12)
        seen.append(meter.progress)
        meter.stop()
        meter.epoch_over()
    with pytest.raises(BudgetSpent):
        meter.start()
    assert seen == pytest.approx([k / 7 for k in range(7)])
    # Schedules use shares: a cut at 3 / 7 must happen in epoch 3.
    assert all(progress >= k / 7 and int(progress / (1 / 7)) == k for k, progress in enumerate(seen))
    assert meter.progress == 1.0


def test_epochs_move_with_every_update() -> None:
    meter = EpochMeter(2)
    meter.expect(8)
    seen = []
    for samples in ([2, 2, 4], [5, 5, 5]):  # the second is longer than expected: it waits before its end
        for count in samples:
            meter.charge(1, samples=count)
            seen.append(meter.progress)
        meter.epoch_over()
        seen.append(meter.progress)
    assert seen == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1 / 2, 0.5 + 5 / 16, 1, 1, 1], abs=1e-6)
    assert seen[2] < 1 / 2 <= seen[3]
    assert seen == sorted(seen)
    assert meter.expected == 15  # of the next one, if there were any


def test_work_is_not_negative() -> None:
    meter = WorkMeter(10)
    for amounts in ((-1, 0, 0), (1, -1, 0), (1, 0, -1)):
        with pytest.raises(ValueError, match="work must not be negative, found "):
            meter.charge(*amounts)
    assert meter.used == 0


def test_meters_resume_from_their_states() -> None:
    watch = Watch()
    work, time, epochs = WorkMeter(10), TimeMeter(10, watch), EpochMeter(10)
    step(time, watch, 2)
    work.charge(3, 2, 1)
    epochs.expect(4)
    epochs.charge(1, samples=3)
    epochs.epoch_over()
    for meter, fresh in ((work, WorkMeter(10)), (time, TimeMeter(10, watch)), (epochs, EpochMeter(10))):
        fresh.load_state_dict(meter.state_dict())
        assert (fresh.progress, fresh.state_dict()) == (meter.progress, meter.state_dict())
    with pytest.raises(KeyError, match="state of another meter"):
        work.load_state_dict(epochs.state_dict())
