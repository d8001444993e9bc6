"""Measures how fast a device trains and scores: short, of plain training, with made-up features and captions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.data.dataset import Captions, ImageFeatures, Split
from ncbench.method.losses import hinge_max
from ncbench.method.optimiser import FUSED
from ncbench.runtime import environment
from ncbench.runtime.device import synchronise
from ncbench.sweeps.devices import HERE, STANDS_FOR, Device, Point
from ncbench.sweeps.estimate import evaluation_work, scoring_seconds
from ncbench.training.cost import denormals_flushed, threads_for

SECONDS = 4.5
"""Of updates in all; building the networks, scoring and first updates, which do not count, take about as long."""
FIRST_BATCH = 8
LENGTH = 15  # tokens of a caption, as in `scenes` on average
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Setting:
    """What is measured: sizes of backbones, pairs in an update, and images (and as many captions) to score."""

    name: str
    sizes: Sizes
    batch: int
    images: int


SETTINGS = (
    Setting("scenes", Sizes(75, 8, 145, embed=128, similarity=32, word=64, dropout=0.1), 128, 500),
    Setting("papers", Sizes(2048, 36, 8481), 128, 128),
)


def measure_device(device: torch.device, on_measure: Callable[[str], None] = lambda words: None) -> Device:
    """Measure the speed of `device` with every measured backbone at the sizes of `scenes` and of papers.

    Batches are as large as the time allows, up to 128 pairs. `on_measure` is told what is measured next.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    training: dict[str, list[Point]] = {}
    scoring: dict[str, list[Point]] = {}
    names = sorted(set(STANDS_FOR.values()))
    share = SECONDS / len(names) / len(SETTINGS)
    for name in names:
        for setting in SETTINGS:
            on_measure(f"{name} at the sizes of {setting.name}")
            with torch.random.fork_rng(devices=[]):
                trained, scored = _measure(name, setting, device, share)
            training.setdefault(name, []).append(trained)
            scoring.setdefault(name, []).append(scored)
    facts = environment.describe(device)
    cpu = device.type == "cpu"
    return Device(
        name=HERE,
        hardware=environment.processor() if cpu else str(facts["device"]),
        threads=torch.get_num_threads() if cpu else None,
        load=None if load is None else round(load, 1),
        clock="processor" if _on_one_core(device) else "wall",
        date=date.today().isoformat(),
        command=f"ncbench doctor --speed --device {device.type}",
        versions={"ncbench": str(facts["ncbench"]), "torch": str(torch.__version__)},
        training=training,
        scoring=scoring,
    )


def _on_one_core(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1


def _measure(name: str, setting: Setting, device: torch.device, seconds: float) -> tuple[Point, Point]:
    """Return the speed of updates, for about so many seconds, and of scoring."""
    # On one core, the time of this process does not depend on how busy the machine is.
    now = time.process_time if _on_one_core(device) else time.perf_counter
    torch.manual_seed(0)
    split = _made_up(setting)
    backbone = build_backbone(name, setting.sizes).to(device)
    work: list[int] = []
    backbone.on_work = lambda flops, pairs=0, samples=0: work.append(flops)
    optimiser = torch.optim.Adam(backbone.parameters(), LEARNING_RATE, fused=device.type in FUSED)
    batch, count, spent = FIRST_BATCH, 0, 0.0
    step = _work_of_a_step(backbone, setting.batch)
    with threads_for(step, device), denormals_flushed():
        _update(backbone, optimiser, split, batch, device)  # the first one is slow
        while True:  # double the batch while two updates of twice the time fit
            since = now()
            _update(backbone, optimiser, split, batch, device)
            if batch == setting.batch or 4 * (now() - since) > seconds:
                break
            batch = min(2 * batch, setting.batch)
        work.clear()
        end = time.perf_counter() + seconds
        while not count or time.perf_counter() < end:
            since = now()
            _update(backbone, optimiser, split, batch, device)
            spent, count = spent + now() - since, count + 1
        trained = Point(_rounded(sum(work) / count), _rounded(sum(work) / spent))
        backbone.on_work = lambda flops, pairs=0, samples=0: None
        whole = evaluation_work(backbone, split)
        took = scoring_seconds([backbone], split, device, now)
    return trained, Point(_rounded(whole / len(split.images) / len(split.captions)), _rounded(whole / took))


def _work_of_a_step(backbone: Backbone, batch: int) -> int:
    regions = backbone.sizes.n_regions
    pairs = batch * (backbone.caption_work(LENGTH) + batch * backbone.pair_work(regions, LENGTH))
    return 3 * (batch * backbone.image_work(regions) + pairs)


def _update(
    backbone: Backbone, optimiser: torch.optim.Optimizer, split: Split, batch: int, device: torch.device
) -> None:
    """Make one update of plain training with the first `batch` pairs."""
    numbers = np.arange(batch)
    tokens, lengths = split.captions.padded(numbers)
    images = torch.from_numpy(split.images.take(numbers)).to(device)
    similarities = backbone(images, torch.from_numpy(tokens).to(device), torch.from_numpy(lengths))
    optimiser.zero_grad()
    hinge_max(similarities, 0.2).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    synchronise(device)


def _made_up(setting: Setting) -> Split:
    """Return random images and captions, as many of both."""
    generator, sizes = np.random.default_rng(0), setting.sizes
    features = generator.standard_normal((setting.images, sizes.n_regions, sizes.image_dim), np.float32)
    words = generator.integers(1, sizes.vocabulary, (setting.images, LENGTH)).tolist()
    captions = Captions([""] * setting.images, words)
    return Split(ImageFeatures([features]), captions, np.arange(setting.images))


def _rounded(value: float) -> float:
    """Return three digits: no measurement deserves more."""
    return float(f"{value:.3g}")
