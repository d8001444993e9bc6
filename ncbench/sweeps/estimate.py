"""Cost estimates of planned runs: work from the cost formulas, time from a measured speed.

The speed comes from earlier records with the same method, backbone, sizes and dataset, made on any machine. Without
such records, it is measured on this machine with a few updates. Or it is assumed to be that of a measured device.
Evaluation (every image of a split against every caption) counts too, and has a separate speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ncbench.backbones.base import FLOAT_BYTES, Backbone
from ncbench.backbones.outline import outline
from ncbench.backbones.precision import matmul_precision
from ncbench.backbones.registry import members_of
from ncbench.budget import EpochMeter, TimeMeter, WorkMeter
from ncbench.data.dataset import Captions, ImageFeatures, Split
from ncbench.evaluation.scored_blocks import MAX_MATRIX_BYTES, times_scored
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.history import History
from ncbench.records.progress import read_progress
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.records.store import Store
from ncbench.runtime import memory
from ncbench.runtime.device import choose_device, peak_bytes
from ncbench.sweeps.devices import Device
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.cost import Work, denormals_flushed, meters_of, threads_for
from ncbench.training.numbering import Numbering
from ncbench.training.trainer import Clock, Trainer

CALIBRATION_SECONDS = 2.0
INITIAL_SAMPLE = 32  # images and captions in the first measurement of scoring
COPIES_OF_WEIGHTS = 5  # weights, gradients, two moments of Adam, the best weights
MAX_RECORDS = 5  # a speed is the median over the latest records

Kind = tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Training FLOPs per second, seconds per dev evaluation, number of networks, and where these numbers come from.

    `peak` is the peak of memory, in bytes, that was measured in such a run; None if none was.
    """

    flops: float
    evaluation: float
    networks: int
    source: str
    peak: int | None = None


@dataclass(frozen=True)
class Estimate:
    """Expected FLOPs of training and evaluation, expected seconds, and the share in [0, 1] that is already done.

    `peak` is the expected peak of memory in bytes; with `peak_is_floor`, only what can be computed of it.
    """

    training: float
    evaluation: float
    seconds: float
    done: float
    source: str
    peak: int
    peak_is_floor: bool

    @property
    def left(self) -> float:
        """Remaining seconds."""
        return self.seconds * (1 - self.done)


class Speeds:
    """The speeds of runs, read from the records in `store` or measured on `device` once per kind of run.

    With `assumed`, all speeds are those of this measured device. `on_measure` is called before each measurement. The
    device is only accessed if a measurement is needed.
    """

    def __init__(
        self, store: Store, device: str, on_measure: Callable[[PlannedRun], None], assumed: Device | None = None
    ) -> None:
        self._device, self._on_measure, self._assumed = device, on_measure, assumed
        self._recorded = {} if assumed else _speeds_of_records(store.results())
        self._measured: dict[Kind, Speed] = {}

    def of(self, run: PlannedRun) -> Speed:
        """Return the speed of a run. Raises UserError if the device is not available."""
        kind = kind_of(run.spec)
        if kind in self._recorded:
            return self._recorded[kind]
        if kind not in self._measured:
            if self._assumed is not None:
                self._measured[kind] = assumed_speed(run, self._assumed)
            else:
                self._on_measure(run)
                self._measured[kind] = measure(run, choose_device(self._device))
        return self._measured[kind]


def estimate(run: PlannedRun, speed: Speed, folder: Path) -> Estimate:
    """Return the expected cost of `run` at `speed`; `folder` is its run folder, which may not exist yet."""
    spec = run.spec
    backbone = outline(spec.backbone, sizes_of(spec, run.dataset))
    dev, test = (evaluation_work(backbone, run.dataset.splits[name]) * speed.networks for name in ("dev", "test"))
    training = training_work(run, speed)
    evaluation = spec.evaluations * dev + test
    seconds = training / speed.flops + speed.evaluation * (spec.evaluations + test / dev)
    if Record(folder).finished:
        done = 1.0
    else:
        progress = read_progress(folder)
        done = progress.share if progress else 0.0
    floor = memory_floor(run, backbone, speed.networks)
    peak = floor if speed.peak is None else speed.peak
    return Estimate(training, evaluation, seconds, done, speed.source, peak, speed.peak is None)


def memory_floor(run: PlannedRun, backbone: Backbone, networks: int) -> int:
    """Return the bytes that a run needs at least, host and device together.

    These are features that are not mapped from files, the largest similarity matrix, and of every network the weights,
    their gradients, both moments of Adam and the best weights so far. Activations and the process itself come on top.
    """
    splits = run.dataset.splits
    features = sum(split.images.nbytes for split in splits.values() if not split.images.on_disk)
    matrix = max(len(splits[name].images) * len(splits[name].captions) for name in ("dev", "test"))
    weights = sum(weight.numel() for weight in backbone.parameters())
    matrix = min(matrix, MAX_MATRIX_BYTES // FLOAT_BYTES)  # larger ones are scored in blocks
    return features + FLOAT_BYTES * (matrix + COPIES_OF_WEIGHTS * networks * weights)


def assumed_speed(run: PlannedRun, device: Device) -> Speed:
    """Return the speed of a run on a measured device: that of plain training with the same backbone and sizes."""
    spec, dataset, members = run.spec, run.dataset, members_of(run.spec.backbone)
    networks = sum(len(trainer.backbones) for trainer in _trainers(run, torch.device("cpu"))) // len(members)
    flops = seconds = evaluation = 0.0
    dev = dataset.splits["dev"]
    for name in members:
        work = Work.of(replace(spec, backbone=name), dataset)
        flops, seconds = flops + work.epoch, seconds + work.epoch / device.training_speed(name, work.step)
        backbone = outline(name, sizes_of(spec, dataset))
        whole = evaluation_work(backbone, dev)
        rate = device.scoring_speed(name, whole / len(dev.images) / len(dev.captions))
        evaluation += networks * whole / rate
    return Speed(flops / seconds, evaluation, networks, f"--assume {device.name}")


def training_work(run: PlannedRun, speed: Speed) -> float:
    """Return the training FLOPs that the budget of a run allows.

    Seconds are converted with `speed`. An own epoch is assumed to cost one baseline epoch per network of the method,
    the cost of the simplest possible method.
    """
    total = 0.0
    members = members_of(run.spec.backbone)
    for name, meter in zip(members, meters_of(run.spec, run.dataset), strict=True):
        if isinstance(meter, WorkMeter):
            total += meter.total
        elif isinstance(meter, TimeMeter):
            total += meter.total * speed.flops
        elif isinstance(meter, EpochMeter):
            epoch = Work.of(replace(run.spec, backbone=name), run.dataset).epoch
            total += meter.total * epoch * speed.networks / len(members)
    return total


def evaluation_work(backbone: Backbone, split: Split) -> int:
    """Return the FLOPs for scoring every image of a split against every caption, twice in a large split."""
    n_regions, images = backbone.sizes.n_regions, len(split.images)
    lengths, counts = np.unique(split.captions.lengths, return_counts=True)
    captions = sum(
        int(count) * (backbone.caption_work(int(length)) + images * backbone.pair_work(n_regions, int(length)))
        for length, count in zip(lengths, counts, strict=True)
    )
    return times_scored(split) * (images * backbone.image_work(n_regions) + captions)


def measure(run: PlannedRun, device: torch.device) -> Speed:
    """Measure the speed of a run without recording it.

    Trains for CALIBRATION_SECONDS (at least two updates), and scores a part of dev for a quarter of that time.
    """
    spec, dataset = run.spec, run.dataset
    flops = seconds = evaluation = 0.0
    networks = 0
    members = members_of(spec.backbone)
    memory.reset_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for trainer in _trainers(run, device):
        work = Work.of(replace(spec, backbone=trainer.name), dataset)
        with threads_for(work.step, device), denormals_flushed(), matmul_precision(spec.precision):
            used, spent = trainer.spend()
            with trainer.meter.paused():
                evaluation += scoring_seconds(trainer.backbones, dataset.splits["dev"], device)
        flops, seconds = flops + used, seconds + spent
        networks += len(trainer.backbones)
    peak = _device_peak(peak_bytes(device))
    source = f"measured here ({_device_name(device)})"
    return Speed(flops / seconds, evaluation, networks // len(members), source, peak)


def _trainers(run: PlannedRun, device: torch.device) -> Iterator[Trainer]:
    """Yield a trainer for each member of the backbone of a run, set up to train for a moment."""
    spec, dataset = run.spec, run.dataset
    train = dataset.splits["train"]
    captions = run.noise.seen(train.captions, dataset.vocabulary)
    numbering = Numbering.draw(len(train.captions), len(train.images), spec.seed, spec.noise_digest)
    view = numbering.view(train.images, captions, run.noise.claimed, device)
    truth = numbering.shown(run.noise.clean(train.true)) if dataset.truth_known else None
    members = members_of(spec.backbone)
    for name in members:
        config = run.method.Config(**spec.settings)
        meter = TimeMeter(CALIBRATION_SECONDS / len(members))
        trainer = Trainer(
            spec, name, sizes_of(spec, dataset), run.method(config), meter, device, Clock(), History(Path())
        )
        work = Work.of(replace(spec, backbone=name), dataset)
        with threads_for(work.step, device), denormals_flushed(), matmul_precision(spec.precision):
            trainer.set_up(view, truth)
        yield trainer


def scoring_seconds(
    backbones: Sequence[Backbone], split: Split, device: torch.device, now: Callable[[], float] | None = None
) -> float:
    """Return the seconds, on the clock `now`, that `backbones` take to score a split, extrapolated from a part."""
    now = now or time.perf_counter
    whole, size = evaluation_work(backbones[0], split), INITIAL_SAMPLE
    while True:
        part = part_of(split, size)
        since = now()
        similarity_matrix(backbones, part, device)
        spent = now() - since
        enough = spent >= CALIBRATION_SECONDS / 4 or size >= max(len(split.images), len(split.captions))
        if enough:
            return spent * whole / evaluation_work(backbones[0], part)
        size *= 2


def part_of(split: Split, size: int) -> Split:
    """Return up to `size` evenly spaced images and captions of a split; the correspondence is all zeros."""
    images, captions = (
        np.linspace(0, count - 1, min(size, count)).astype(np.int64)
        for count in (len(split.images), len(split.captions))
    )
    tokens, lengths = split.captions.padded(captions)
    words = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    texts = [split.captions.texts[number] for number in captions]
    return Split(ImageFeatures([split.images.take(images)]), Captions(texts, words), np.zeros_like(captions))


def kind_of(spec: RunSpec) -> Kind:
    """Return the parts of a spec that determine its speed."""
    sizes = ", ".join(f"{key}={value:g}" for key, value in sorted(spec.sizes.items()))
    data = (spec.dataset, spec.dataset_version, spec.dataset_digest)
    return (*data, spec.method, spec.backbone, sizes, spec.precision, spec.backbone_source)


@dataclass(frozen=True)
class _RecordedSpeed:
    """The speed of one finished run."""

    started: float
    device: str
    flops: float
    evaluation: float
    folder: Path
    peak: int | None


def _speeds_of_records(records: Iterable[Record]) -> dict[Kind, Speed]:
    """Return speeds by kind of run: the median over the latest records made on the device of the most recent one."""
    found: dict[Kind, list[_RecordedSpeed]] = {}
    for record in records:
        result, measured = record.result, record.measurements
        if measured is None or measured.started is None or not measured.seconds.training or not result.work.used:
            continue
        speed = _RecordedSpeed(
            measured.started,
            measured.environment.device,
            result.work.used / measured.seconds.training,
            measured.seconds.evaluation / (result.spec.evaluations + 1),
            record.folder,
            _device_peak(measured.peak_bytes),
        )
        found.setdefault(kind_of(result.spec), []).append(speed)
    return {kind: _median_speed(recorded, backbone=kind[4]) for kind, recorded in found.items()}


def _median_speed(recorded: Sequence[_RecordedSpeed], backbone: str) -> Speed:
    latest = max(recorded, key=lambda speed: speed.started)
    same_device = [speed for speed in recorded if speed.device == latest.device]
    used = sorted(same_device, key=lambda speed: speed.started, reverse=True)[:MAX_RECORDS]
    return Speed(
        statistics.median(speed.flops for speed in used),
        statistics.median(speed.evaluation for speed in used),
        _networks(latest.folder) // len(members_of(backbone)) or 1,
        f"{len(used)} {'record' if len(used) == 1 else 'records'} ({latest.device})",
        max((speed.peak for speed in used if speed.peak is not None), default=None),
    )


def _device_peak(peaks: Mapping[str, int | None]) -> int | None:
    """Return the peak on the device if it has memory of its own, else on the host; None if it was not measured."""
    on_device = peaks.get("device")
    return peaks.get("host") if on_device is None else on_device


def _networks(folder: Path) -> int:
    """Return the number of networks of a finished run, or 1 if its weights were deleted."""
    try:
        with safe_open(folder / "model.safetensors", framework="numpy") as weights:
            return len({name.partition(".")[0] for name in weights.keys()})  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError):
        return 1


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
