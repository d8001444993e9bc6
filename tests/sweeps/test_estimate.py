"""Cost estimates: work as counted by the meters, time from records or a measurement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import prepare_run
from toy_methods import Toy, Twins

from ncbench import UserError
from ncbench.backbones.registry import build_backbone
from ncbench.budget import Unit
from ncbench.data.dataset import Dataset, Split
from ncbench.method.base import Method
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.records.store import Store
from ncbench.sweeps import estimate
from ncbench.sweeps.devices import Device
from ncbench.sweeps.estimate import Speed, Speeds, evaluation_work, memory_floor, training_work
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.cost import Work

CPU = torch.device("cpu")
SPEED = Speed(1e6, 4.0, 1, "made up")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.05)


def planned(
    dataset: Dataset,
    folder: Path,
    kind: type[Method] = Toy,
    backbone: str = "vse",
    *,
    budget: float = 2.0,
    budget_unit: Unit = "epochs",
    seed: int = 0,
) -> PlannedRun:
    run = prepare_run(dataset, folder, kind, backbone, budget=budget, budget_unit=budget_unit, seed=seed)
    return PlannedRun(run.spec, dataset, run.noise, kind)


def baseline(spec: RunSpec, dataset: Dataset) -> int:
    return Work.of(spec, dataset).epoch


@pytest.mark.parametrize(
    ("budget", "unit", "expected"),
    [(2.0, "epochs", 2.0), (5e6, "flops", None), (3.0, "own-epochs", 3.0), (4.0, "seconds", None)],
)
def test_work_of_a_budget(budget: float, unit: Unit, expected: float | None, tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path, budget=budget, budget_unit=unit)
    epoch = baseline(run.spec, tiny)
    work = training_work(run, SPEED)
    assert work == pytest.approx({"flops": 5e6, "seconds": 4e6}.get(unit, (expected or 0) * epoch), rel=1e-6)


def test_an_own_epoch_of_two_networks_is_two(tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path, Twins, budget=3, budget_unit="own-epochs")
    assert training_work(run, replace(SPEED, networks=2)) == 2 * training_work(run, SPEED)


def test_work_of_a_budget_is_what_a_run_spends(tiny: Dataset, tmp_path: Path) -> None:
    run, store = planned(tiny, tmp_path), Store(tmp_path)
    result = execute(run, store, CPU, lambda progress: None).result
    assert result is not None
    assert training_work(run, SPEED) == result.work.budget
    step = Work.of(run.spec, tiny).step
    assert training_work(run, SPEED) - 2 * step <= result.work.used <= training_work(run, SPEED)


@pytest.mark.parametrize("name", ["vse", "sgr", "sgraf"])
def test_work_of_evaluation_is_that_of_scoring_all(name: str, tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path, backbone=name)
    with torch.device("meta"):
        backbone = build_backbone(name, sizes_of(run.spec, tiny))
    split = tiny.splits["test"]
    regions = tiny.n_regions
    expected = sum(backbone.image_work(regions) for _ in range(len(split.images)))
    for length in split.captions.lengths:
        expected += backbone.caption_work(int(length))
        expected += sum(backbone.pair_work(regions, int(length)) for _ in range(len(split.images)))
    assert evaluation_work(backbone, split) == expected


def test_large_splits_are_scored_twice_without_a_matrix(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, split = planned(tiny, tmp_path), tiny.splits["test"]
    backbone = build_backbone("vse", sizes_of(run.spec, tiny))
    work, memory = evaluation_work(backbone, split), memory_floor(run, backbone, 1)
    size = 4 * len(split.images) * len(split.captions)
    for module in ("ncbench.evaluation.scored_blocks", "ncbench.sweeps.estimate"):
        monkeypatch.setattr(f"{module}.MAX_MATRIX_BYTES", size - 4)
    assert evaluation_work(backbone, split) == 2 * work
    assert memory_floor(run, backbone, 1) == memory - 4


def test_a_speed_that_was_measured_here(tiny: Dataset, tmp_path: Path) -> None:
    told: list[PlannedRun] = []
    speeds = Speeds(Store(tmp_path), "cpu", told.append)
    runs = [planned(tiny, tmp_path, seed=seed) for seed in (0, 1)]
    other = planned(tiny, tmp_path, Twins)
    found = [speeds.of(run) for run in (*runs, other)]
    assert told == [runs[0], other]  # once per kind
    assert [speed.networks for speed in found] == [1, 1, 2]
    assert {speed.source for speed in found} == {"measured here (cpu)"}
    assert all(1e4 < speed.flops < 1e13 for speed in found)
    assert all(1e-5 < speed.evaluation < 10 for speed in found)
    assert list(tmp_path.iterdir()) == []


def test_an_ensemble_is_measured_by_its_members(tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path, Twins, "sgraf")
    assert estimate.measure(run, CPU).networks == 2


def test_a_device_that_is_not_there(tiny: Dataset, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    with pytest.raises(UserError, match="--device cuda: not available on this machine"):
        Speeds(Store(tmp_path), "cuda", lambda run: None).of(planned(tiny, tmp_path))


def test_a_speed_from_records(tiny: Dataset, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed, (rate, device) in enumerate([(1e5, "cpu"), (2e5, "gpu"), (4e5, "gpu"), (9e5, "gpu")]):
        run = planned(tiny, tmp_path, Twins, seed=seed)
        folder = execute(run, store, CPU, lambda progress: None).folder
        used = json.loads((folder / "result.json").read_text())["work"]["used"]
        path = folder / "measurements.json"
        content = json.loads(path.read_text())
        content["started"], content["environment"]["device"] = float(seed), device
        content["seconds"].update(training=used / rate, evaluation=8.0)
        content["peak_bytes"] = {"host": 9000, "device": 5000 + 1000 * min(seed, 2)}
        path.write_text(json.dumps(content))
    speed = Speeds(store, "cpu", lambda run: pytest.fail("measured")).of(planned(tiny, tmp_path, Twins, seed=9))
    assert speed.flops == pytest.approx(4e5)  # the median over the device of the latest record
    assert speed == Speed(speed.flops, 2.0, 2, "3 records (gpu)", 7000)  # four evaluations took eight seconds
    waiting = planned(tiny, tmp_path, Twins, seed=9)
    cost = estimate.estimate(waiting, speed, store.folder(waiting.spec))
    assert (cost.peak, cost.peak_is_floor) == (7000, False)
    assert cost.seconds == pytest.approx(cost.training / 4e5 + 2.0 * (3 + 1))  # dev and test are as large here


@pytest.mark.parametrize(("kind", "backbone", "networks"), [(Toy, "vse", 1), (Twins, "vse", 2), (Twins, "sgraf", 2)])
def test_a_speed_that_is_assumed(
    kind: type[Method], backbone: str, networks: int, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tiny, tmp_path, kind, backbone)
    rates = {"sgr": 1e6, "saf": 3e6, "vse": 2e6}
    monkeypatch.setattr(Device, "training_speed", lambda self, name, step: rates[name])
    monkeypatch.setattr(Device, "scoring_speed", lambda self, name, pair: 10 * rates[name])
    device = Device(name="x", hardware="", date="", command="", versions={}, training={}, scoring={})
    told: list[PlannedRun] = []
    speed = Speeds(Store(tmp_path), "cuda", told.append, device).of(run)  # no such device is needed
    assert (speed.networks, speed.source, speed.peak, told) == (networks, "--assume x", None, [])
    members = {"sgraf": ("sgr", "saf")}.get(backbone, (backbone,))
    works = {name: baseline(replace(run.spec, backbone=name), tiny) for name in members}
    assert speed.flops == pytest.approx(sum(works.values()) / sum(work / rates[name] for name, work in works.items()))
    expected = 0.0
    for name in members:
        with torch.device("meta"):
            network = build_backbone(name, sizes_of(run.spec, tiny))
        expected += networks * evaluation_work(network, tiny.splits["dev"]) / rates[name] / 10
    assert speed.evaluation == pytest.approx(expected)


def test_the_memory_that_a_run_needs_at_least(tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path, Twins)
    cost = estimate.estimate(run, replace(SPEED, networks=2), tmp_path)
    network = build_backbone("vse", sizes_of(run.spec, tiny))
    weights = sum(weight.numel() for weight in network.parameters())
    test = tiny.splits["test"]
    features = sum(len(split.images) for split in tiny.splits.values()) * tiny.n_regions * tiny.image_dim
    assert cost.peak_is_floor
    assert cost.peak == 4 * (features + len(test.images) * len(test.captions) + 5 * 2 * weights)


def test_a_measurement_here_has_a_peak_of_memory(tiny: Dataset, tmp_path: Path) -> None:
    run = planned(tiny, tmp_path)
    speed = estimate.measure(run, CPU)
    if speed.peak is not None:  # systems other than Linux do not say
        assert estimate.estimate(run, speed, tmp_path).peak == speed.peak > 10**7


def test_records_without_measurements_tell_nothing(tiny: Dataset, tmp_path: Path) -> None:
    store, run, told = Store(tmp_path), planned(tiny, tmp_path), list[PlannedRun]()
    folder = execute(run, store, CPU, lambda progress: None).folder
    (folder / "measurements.json").unlink()
    assert Speeds(store, "cpu", told.append).of(run).source == "measured here (cpu)"
    assert told == [run]


def test_what_is_left(tiny: Dataset, tmp_path: Path) -> None:
    store, run = Store(tmp_path), planned(tiny, tmp_path)
    folder = store.start(run.spec)
    assert estimate.estimate(run, SPEED, folder).done == 0.0
    cost = estimate.estimate(run, SPEED, folder)
    assert cost.seconds == cost.left == pytest.approx(cost.training / 1e6 + 4.0 * (3 + 1))  # dev and test are as large
    (folder / "progress.json").write_text('{"share": 0.25, "doing": "training"}')
    assert estimate.estimate(run, SPEED, folder).left == pytest.approx(0.75 * cost.seconds)
    (folder / "result.json").touch()
    assert estimate.estimate(run, SPEED, folder).left == 0.0


def test_a_part_of_a_split(tiny: Dataset) -> None:
    split = tiny.splits["train"]
    part = estimate.part_of(split, 5)
    assert (len(part.images), len(part.captions), len(part.true)) == (5, 5, 5)
    chosen = [0, 11, 23, 35, 47]
    assert part.captions.texts == [split.captions.texts[number] for number in chosen]
    assert part.captions.padded(np.arange(5))[0].tolist() == split.captions.padded(np.array(chosen))[0].tolist()
    assert np.array_equal(part.images.take(np.arange(5)), split.images.take(np.array([0, 5, 11, 17, 23])))
    whole = estimate.part_of(split, 10**6)
    assert (len(whole.images), len(whole.captions)) == (len(split.images), len(split.captions))


def test_scoring_is_measured_on_a_part(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is proportional to work."""
    backbone = build_backbone("vse", sizes_of(planned(tiny, tmp_path).spec, tiny))
    now, sizes = [0.0], list[tuple[int, int]]()

    def score(backbones: object, part: Split, device: object) -> None:
        sizes.append((len(part.images), len(part.captions)))
        now[0] += 1e-6 * evaluation_work(backbone, part)

    monkeypatch.setattr(estimate, "INITIAL_SAMPLE", 2)
    monkeypatch.setattr(estimate, "similarity_matrix", score)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 4 * 0.05)
    split = tiny.splits["train"]
    found = estimate.scoring_seconds([backbone], split, CPU)
    assert found == pytest.approx(1e-6 * evaluation_work(backbone, split))
    assert sizes[0] == (2, 2)
    assert sizes[-1][1] < len(split.captions)
