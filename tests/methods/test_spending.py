"""What every shipped method spends: all that it is given, and no more, under every kind of budget."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from runs import prepare_run

from ncbench.budget import Meter, Unit
from ncbench.data.dataset import Dataset
from ncbench.method.registry import GROUP, load_method
from ncbench.plugins.discovery import plugin_names
from ncbench.runtime.signals import Stopped
from ncbench.training.run import Run

NAMES = plugin_names(GROUP)
SMALL = {"batch_size": 8, "queue": 8, "warmup_batch": 8, "meta_batch": 8, "meta": 0.2, "hidden": 8, "warmup": 0.3}


def prepare(name: str, dataset: Dataset, folder: Path, **changes: Any) -> Run:
    """Return a run that gets from its warm-up to its main part."""
    kind = load_method(name)
    known = {entry.name for entry in dataclasses.fields(kind.Config)}
    settings = {key: value for key, value in SMALL.items() if key in known}
    return prepare_run(dataset, folder, kind, "saf", settings=settings, **changes)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that will hold, step by step, the FLOPs of all passes that are asked for, also those refused."""
    steps: list[list[int]] = []
    start, charge = Meter.start, Meter.charge

    def started(meter: Meter) -> None:
        steps.append([])
        start(meter)

    def charged(meter: Meter, flops: int, pairs: int = 0, samples: int = 0) -> None:
        if not meter._paused:
            steps[-1].append(flops)
        charge(meter, flops, pairs, samples)

    monkeypatch.setattr(Meter, "start", started)
    monkeypatch.setattr(Meter, "charge", charged)
    return steps


@pytest.mark.parametrize("name", NAMES)
def test_counted_work_is_within_one_step_of_the_budget(
    name: str, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = watch(monkeypatch)
    work = prepare(name, tiny, tmp_path, budget=6.0).execute().to_dict()["work"]
    assert work["budget"] == 6 * work["baseline_epoch"]
    assert work["used"] <= work["budget"]
    # The last step was broken off at the pass that did not fit; nothing that it had done before is forgotten.
    *whole, last = steps
    *done, refused = last
    assert work["used"] == sum(map(sum, whole)) + sum(done)
    assert work["used"] + refused > work["budget"]
    assert work["updates"] > 6


@pytest.mark.parametrize("name", NAMES)
def test_the_same_flops_buy_the_same_run(name: str, tiny: Dataset, tmp_path: Path) -> None:
    by_epochs = prepare(name, tiny, tmp_path / "epochs", budget=2.5).execute().to_dict()
    flops = 2.5 * by_epochs["work"]["baseline_epoch"]
    by_flops = prepare(name, tiny, tmp_path / "flops", budget=flops, budget_unit="flops").execute().to_dict()
    for key in ("metrics", "work", "selected", "beliefs"):
        assert by_flops[key] == by_epochs[key]


@pytest.mark.parametrize("name", NAMES)
def test_epochs_of_its_own(name: str, tiny: Dataset, tmp_path: Path) -> None:
    run = prepare(name, tiny, tmp_path, budget=5.0, budget_unit="own-epochs", evaluations=5)
    epochs: list[float] = []
    method = run.trainers[0].method
    train_epoch = method.train_epoch

    def counted(epoch: int) -> Any:
        epochs.append(run.trainers[0].meter.progress)
        return train_epoch(epoch)

    method.train_epoch = counted  # type: ignore[method-assign]
    work = run.execute().to_dict()["work"]
    assert epochs == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert all(progress >= k / 5 for k, progress in enumerate(epochs))  # or a schedule of k / 5 would miss its epoch
    assert work["budget"] is None
    assert work["used"] > 0
    # After every epoch, dev.
    assert [round(line["share"], 6) for line in map(json.loads, run.history.lines)] == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("unit", ["seconds", "own-epochs"])
def test_a_run_by_time_or_epochs_resumes_where_it_was(unit: Unit, tiny: Dataset, tmp_path: Path) -> None:
    budget = {"seconds": 0.5, "own-epochs": 3.0}[unit]

    def prepared() -> Run:
        run = prepare("triplet", tiny, tmp_path, budget=budget, budget_unit=unit)
        if unit == "seconds":  # a clock that advances by 0.01 s whenever it is read
            run.trainers[0].meter._now = partial(next, count(step=0.01))  # type: ignore[attr-defined]
        return run

    first = prepared()
    first.cadence = dataclasses.replace(first.cadence, epoch=0.0, midway=0.0)
    first.should_stop = lambda: first.trainers[0].updates >= 3
    with pytest.raises(Stopped):
        first.execute()
    spent = first.trainers[0].meter.state_dict()
    second = prepared()
    seen: list[dict[str, float]] = []
    second.on_progress = lambda progress: seen.append(second.trainers[0].meter.state_dict())
    second.execute()
    assert all(seen[0][key] >= value for key, value in spent.items() if not key.startswith("last"))
    assert second.trainers[0].updates > 3
