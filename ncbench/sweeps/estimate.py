"""What runs will cost before any of them executes: work by the cost formulas, time by a speed that was measured.

The speed is that of earlier records of the same method, backbone, sizes and dataset, on whatever machine they ran;
where there are none, that of a few updates made here. Evaluation is work too, every image of a split against every
caption, and has a speed of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ncbench.backbones.base import Backbone
from ncbench.backbones.precision import matmul_precision
from ncbench.backbones.registry import build_backbone, members_of
from ncbench.budget import EpochMeter, TimeMeter, WorkMeter
from ncbench.data.dataset import Captions, ImageFeatures, Split
from ncbench.data.training_view import TrainingView
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.records.history import History
from ncbench.records.progress import read_progress
from ncbench.records.record import Record
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.records.store import Store
from ncbench.runtime.device import choose_device
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.cost import Work, denormals_flushed, meters_of, threads_for
from ncbench.training.trainer import Clock, Trainer

CALIBRATION_SECONDS = 2.0
FEW = 32  # images and captions that a measurement of scoring begins with
LATEST = 5  # records that a speed is the median of

Kind = tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """FLOPs of training a second, seconds of one evaluation of dev, networks of the method; whence that is known."""

    flops: float
    evaluation: float
    networks: int
    source: str


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take: FLOPs of training and of evaluation, seconds; and what of it is done already."""

    training: float
    evaluation: float
    seconds: float
    done: float
    source: str

    @property
    def left(self) -> float:
        """Seconds that are still to be spent."""
        return self.seconds * (1 - self.done)


class Speeds:
    """The speeds of runs: read from the records of `store`, or measured on `device`, once for each kind of run.

    `tell` hears of a measurement before it begins. The device is only looked for where one is needed.
    """

    def __init__(self, store: Store, device: str, tell: Callable[[PlannedRun], None]) -> None:
        self._device, self._tell = device, tell
        self._recorded = _recorded(store.results())
        self._measured: dict[Kind, Speed] = {}

    def of(self, run: PlannedRun) -> Speed:
        """Return the speed of a run. Raises UserError for a device that is not there."""
        kind = kind_of(run.spec)
        if kind in self._recorded:
            return self._recorded[kind]
        if kind not in self._measured:
            self._tell(run)
            self._measured[kind] = measure(run, choose_device(self._device))
        return self._measured[kind]


def estimate(run: PlannedRun, speed: Speed, folder: Path) -> Estimate:
    """Return what `run`, whose record is or will be in `folder`, is expected to take at `speed`."""
    spec = run.spec
    with torch.device("meta"):  # only the cost formulas are needed, not the weights
        backbone = build_backbone(spec.backbone, sizes_of(spec, run.dataset))
    dev, test = (evaluation_work(backbone, run.dataset.splits[name]) * speed.networks for name in ("dev", "test"))
    training = training_work(run, speed)
    evaluation = spec.evaluations * dev + test
    seconds = training / speed.flops + speed.evaluation * (spec.evaluations + test / dev)
    if Record(folder).finished:
        done = 1.0
    else:
        progress = read_progress(folder)
        done = progress.share if progress else 0.0
    return Estimate(training, evaluation, seconds, done, speed.source)


def training_work(run: PlannedRun, speed: Speed) -> float:
    """Return the FLOPs of training that the budget of a run means.

    Of seconds, as many as `speed` makes of them; of an own epoch, one baseline epoch for each network of the method,
    which is what the plainest of methods would spend.
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
    """Return the FLOPs of scoring every image of a split against every caption."""
    n_regions, images = backbone.sizes.n_regions, len(split.images)
    lengths, counts = np.unique(split.captions.lengths, return_counts=True)
    captions = sum(
        int(count) * (backbone.caption_work(int(length)) + images * backbone.pair_work(n_regions, int(length)))
        for length, count in zip(lengths, counts, strict=True)
    )
    return images * backbone.image_work(n_regions) + captions


def measure(run: PlannedRun, device: torch.device) -> Speed:
    """Return the speed of a run from a little of it, without recording.

    It is trained for CALIBRATION_SECONDS, at least two updates, and scores a part of dev for a quarter of that.
    """
    spec, dataset = run.spec, run.dataset
    train = dataset.splits["train"]
    captions = run.noise.seen(train.captions, dataset.vocabulary)
    view = TrainingView(train.images, captions, run.noise.claimed, device)
    truth = run.noise.clean(train.true) if dataset.truth_known else None
    flops = seconds = evaluation = 0.0
    networks = 0
    members = members_of(spec.backbone)
    for name in members:
        trainer = Trainer(
            spec,
            name,
            sizes_of(spec, dataset),
            run.method(run.method.Config(**spec.settings)),
            TimeMeter(CALIBRATION_SECONDS / len(members)),
            device,
            Clock(),
            History(Path()),
        )
        work = Work.of(replace(spec, backbone=name), dataset)
        with threads_for(work.step, device), denormals_flushed(), matmul_precision(spec.precision):
            trainer.set_up(view, truth)
            used, spent = trainer.spend()
            with trainer.meter.paused():
                evaluation += scoring_seconds(trainer.backbones, dataset.splits["dev"], device)
        flops, seconds = flops + used, seconds + spent
        networks += len(trainer.backbones)
    return Speed(flops / seconds, evaluation, networks // len(members), f"measured here ({_called(device)})")


def scoring_seconds(backbones: Sequence[Backbone], split: Split, device: torch.device) -> float:
    """Return the seconds that `backbones` would take to score a split, from those that they take for a part of it."""
    whole, size = evaluation_work(backbones[0], split), FEW
    while True:
        part = part_of(split, size)
        since = time.perf_counter()
        similarity_matrix(backbones, part, device)
        spent = time.perf_counter() - since
        enough = spent >= CALIBRATION_SECONDS / 4 or size >= max(len(split.images), len(split.captions))
        if enough:
            return spent * whole / evaluation_work(backbones[0], part)
        size *= 2


def part_of(split: Split, size: int) -> Split:
    """Return `size` of the images and as many of the captions of a split, or all, from all over it; not their truth."""
    images, captions = (
        np.linspace(0, count - 1, min(size, count)).astype(np.int64)
        for count in (len(split.images), len(split.captions))
    )
    tokens, lengths = split.captions.padded(captions)
    words = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    texts = [split.captions.texts[number] for number in captions]
    return Split(ImageFeatures([split.images.take(images)]), Captions(texts, words), np.zeros_like(captions))


def kind_of(spec: RunSpec) -> Kind:
    """Return the part of a spec that its speed depends on."""
    sizes = ", ".join(f"{key}={value:g}" for key, value in sorted(spec.sizes.items()))
    return (spec.dataset, spec.dataset_version, spec.method, spec.backbone, sizes, spec.precision)


@dataclass(frozen=True)
class _Past:
    """What a finished run tells of its speed."""

    started: float
    device: str
    flops: float
    evaluation: float
    folder: Path


def _recorded(records: Iterable[Record]) -> dict[Kind, Speed]:
    """Return the speeds of finished runs by kind: medians of the latest on the device of the very latest."""
    found: dict[Kind, list[_Past]] = {}
    for record in records:
        result, measured = record.result, record.measurements
        if measured is None or measured.started is None or not measured.seconds.training or not result.work.used:
            continue
        past = _Past(
            measured.started,
            measured.environment.device,
            result.work.used / measured.seconds.training,
            measured.seconds.evaluation / (result.spec.evaluations + 1),
            record.folder,
        )
        found.setdefault(kind_of(result.spec), []).append(past)
    return {kind: _typical(pasts, backbone=kind[3]) for kind, pasts in found.items()}


def _typical(pasts: Sequence[_Past], backbone: str) -> Speed:
    latest = max(pasts, key=lambda past: past.started)
    alike = sorted((p for p in pasts if p.device == latest.device), key=lambda p: p.started, reverse=True)[:LATEST]
    return Speed(
        statistics.median(past.flops for past in alike),
        statistics.median(past.evaluation for past in alike),
        _networks(latest.folder) // len(members_of(backbone)) or 1,
        f"{len(alike)} {'record' if len(alike) == 1 else 'records'} ({latest.device})",
    )


def _networks(folder: Path) -> int:
    """Return the number of networks of a finished run; 1 where its weights are gone."""
    try:
        with safe_open(folder / "model.safetensors", framework="numpy") as weights:
            return len({name.partition(".")[0] for name in weights.keys()})  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError):
        return 1


def _called(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
