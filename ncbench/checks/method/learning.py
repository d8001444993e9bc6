"""Whether a method trains at all, beats chance, runs on every device and survives heavy noise."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from math import comb

import numpy as np
import torch

from ncbench.checks.method.candidate import Candidate, Recorded
from ncbench.checks.verdicts import Check, Failed
from ncbench.data.dataset import Split
from ncbench.training.trainer import Diverged

MIN_GAIN = 2.0  # rSum over that of chance
BUDGET = 30.0  # baseline epochs
HEAVY_NOISE_RATIO = 0.8
FIRST_UPDATES = 3


def chance_rsum(split: Split) -> float:
    """Return the expected rSum of random scores.

    Of N captions, one of an image's own c is among the top K with probability 1 - C(N - c, K) / C(N, K). The image of a
    caption is among the top K of I with probability K / I.
    """
    captions, images = len(split.captions), len(split.images)
    own = np.bincount(split.true, minlength=images)
    total = 0.0
    for k in (1, 5, 10):
        t2i = min(1.0, k / images)
        i2t = [1 - comb(captions - int(c), k) / comb(captions, k) for c in own]
        total += 100 * (t2i + float(np.mean(i2t)))
    return total


def _trains(candidate: Candidate) -> str:
    loop = candidate.loop()
    loop.set_up()
    updates = [scalars for scalars in islice(loop.updates(), FIRST_UPDATES + 1) if scalars is not None][:FIRST_UPDATES]
    if not updates:
        raise Failed("its first epoch yields nothing; yield a dict of scalars after every update")
    for scalars in updates:
        if "loss" not in scalars:
            raise Failed(f"yields {sorted(scalars)} without 'loss'")
        if not math.isfinite(scalars["loss"]):
            raise Failed(f"its loss is {scalars['loss']} within {FIRST_UPDATES} updates")
    if not loop.workshop.made:
        raise Failed("builds no backbone with task.new_backbone(), so there is nothing to evaluate")
    return f"{len(loop.workshop.made)} {'network' if len(loop.workshop.made) == 1 else 'networks'}"


def _learns(candidate: Candidate) -> str:
    result = Recorded.of(candidate.run(budget=BUDGET)).result
    found, chance = result["metrics"]["test"]["rsum"], chance_rsum(candidate.dataset.splits["test"])
    words = f"rSum {found:.0f}, {found / chance:.1f} times chance ({chance:.0f})"
    if found < MIN_GAIN * chance:
        raise Failed(f"{words}, after {result['work']['updates']} updates; it must be {MIN_GAIN:g} times")
    return words


def _heavy_noise(candidate: Candidate) -> str:
    noise = candidate.noise(ratio=HEAVY_NOISE_RATIO)
    run = candidate.run(noise=noise)
    try:
        run.execute()
    except Diverged as error:
        raise Failed(f"{error}") from error
    for trainer in run.trainers:
        for network in trainer.backbones:
            if not all(torch.isfinite(weight).all() for weight in network.parameters()):
                raise Failed("weights become NaN or infinite")
    return f"{run.trainers[0].updates} updates, every loss and weight finite"


def devices() -> dict[str, bool]:
    """Return the kinds of devices, and whether each is available."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def _devices(candidate: Candidate) -> str:
    available = [name for name, present in devices().items() if present]
    for name in available:
        there = replace(candidate, device=torch.device(name), folder=candidate.new_folder())
        try:
            Recorded.of(there.run())
        except Exception as error:
            raise Failed(f"on {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    missing = [name for name, present in devices().items() if not present]
    return f"on {', '.join(available)}" + (f"; not available on this machine: {', '.join(missing)}" if missing else "")


TRAINS = Check(
    "trains",
    "builds backbones, and its first updates yield a finite loss",
    "build networks with task.new_backbone() in setup, and yield {'loss': ...} after every update",
    _trains,
)
LEARNS = Check(
    "learns",
    f"rSum on test is at least {MIN_GAIN:g} times chance after {BUDGET:g} baseline epochs at 20 % noise, on a tiny set",
    "check the loss and the learning rate; a preset called 'shapes' can hold settings for this dataset",
    _learns,
    after=("trains", "budget", "pair-scores"),
)
HEAVY_NOISE = Check(
    "heavy-noise",
    f"losses and weights stay finite at {HEAVY_NOISE_RATIO:.0%} noise",
    "guard logarithms and divisions: a batch may have few clean pairs, or none",
    _heavy_noise,
    after=("trains", "budget", "pair-scores"),
)
DEVICES = Check(
    "devices",
    "trains on every kind of device of this machine",
    "create tensors on task.device, and convert to arrays with .cpu()",
    _devices,
    after=("trains", "budget", "pair-scores"),
)
