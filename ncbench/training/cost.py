"""The cost of a run: FLOPs of plain training, the meters of its budget, threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from ncbench.backbones.base import Backbone
from ncbench.backbones.outline import outline
from ncbench.backbones.registry import members_of
from ncbench.budget import EpochMeter, Meter, TimeMeter, WorkMeter
from ncbench.data.dataset import Captions, Dataset
from ncbench.records.spec import RunSpec, sizes_of

FORWARD_AND_BACKWARD = 3


def baseline_epoch_work(backbone: Backbone, captions: Captions, batch_size: int) -> int:
    """Return the FLOPs of one epoch of plain triplet training: every pair once, forward and backward.

    Batches follow the order of the captions. The last one may be smaller. Frozen layers have no backward pass.
    """
    n_regions = backbone.sizes.n_regions
    image = _trained(backbone.image_work(n_regions), backbone.frozen_image_work(n_regions))
    total = 0
    for start in range(0, len(captions), batch_size):
        lengths = captions.lengths[start : start + batch_size]
        values, counts = np.unique(lengths, return_counts=True)
        per_caption = sum(
            int(count)
            * (
                _trained(backbone.caption_work(int(length)), backbone.frozen_caption_work(int(length)))
                + len(lengths) * _trained(backbone.pair_work(n_regions, int(length)))
            )
            for length, count in zip(values, counts, strict=True)
        )
        total += len(lengths) * image + per_caption
    return total


def _trained(work: int, frozen: int = 0) -> int:
    return FORWARD_AND_BACKWARD * (work - frozen) + frozen


MIN_STEP_FOR_THREADS = 10**10  # FLOPs


@dataclass(frozen=True)
class Work:
    """FLOPs of an epoch and of a step of plain triplet training."""

    epoch: int
    step: int

    @staticmethod
    def of(spec: RunSpec, dataset: Dataset) -> Work:
        """Return the work of plain training under `spec` on `dataset`."""
        captions = dataset.splits["train"].captions
        backbone = outline(spec.backbone, sizes_of(spec, dataset))
        epoch = baseline_epoch_work(backbone, captions, dataset.batch_size)
        return Work(epoch, epoch * dataset.batch_size // len(captions))


def meters_of(spec: RunSpec, dataset: Dataset) -> list[Meter]:
    """Return the meters of the budget of `spec`, one for each member of its backbone.

    Each member gets the same number of epochs, or the same time. FLOPs are divided by the cost of an epoch.
    """
    members = members_of(spec.backbone)
    works = [Work.of(replace(spec, backbone=name), dataset).epoch for name in members]
    budget = spec.budget
    if budget.unit == "seconds":
        return [TimeMeter(budget.amount / len(members)) for _ in members]
    if budget.unit == "own-epochs":
        return [EpochMeter(round(budget.amount)) for _ in members]
    epochs = budget.amount if budget.unit == "epochs" else budget.amount / sum(works)
    return [WorkMeter(max(1, round(epochs * work))) for work in works]


@contextmanager
def threads_for(step_work: int, device: torch.device) -> Iterator[None]:
    """Train on one thread if steps (FLOPs) are so small that more threads would cost more than they save.

    Does nothing if the user has set OMP_NUM_THREADS.
    """
    before = torch.get_num_threads()
    if is_small(step_work, device) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: once it has used several, forks of this process cannot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormal numbers to zero: the Adam moments of rare words decay into them, and they are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def is_small(step_work: int, device: torch.device) -> bool:
    """Return whether steps of `step_work` FLOPs are too small for more than one core of a CPU."""
    return device.type == "cpu" and step_work < MIN_STEP_FOR_THREADS
