"""Whether a method trains: at all, better than chance, on every device, under heavy noise."""

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

FACTOR = 2.0
BUDGET = 30.0  # baseline epochs
HEAVY = 0.8
FEW = 3  # updates


def chance_rsum(split: Split) -> float:
    """Return the expected rSum of scores at random.

    Of N captions, c of them an image's own, one is among the K best with probability 1 - C(N - c, K) / C(N, K); the
    image of a caption is among the K best of I with probability K / I.
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
    updates = [scalars for scalars in islice(loop.updates(), FEW + 1) if scalars is not None][:FEW]
    if not updates:
        raise Failed("its first epoch yields nothing; yield a mapping of scalars after every update")
    for scalars in updates:
        if "loss" not in scalars:
            raise Failed(f"yields {sorted(scalars)}, and no 'loss'")
        if not math.isfinite(scalars["loss"]):
            raise Failed(f"its loss is {scalars['loss']} within {FEW} updates")
    if not loop.workshop.made:
        raise Failed("builds no backbone by task.new_backbone(), so that there is nothing to test")
    return f"{len(loop.workshop.made)} {'network' if len(loop.workshop.made) == 1 else 'networks'}"


def _learns(candidate: Candidate) -> str:
    result = Recorded.of(candidate.run(budget=BUDGET)).result
    found, chance = result["metrics"]["test"]["rsum"], chance_rsum(candidate.dataset.splits["test"])
    words = f"rSum {found:.0f}, {found / chance:.1f} times chance ({chance:.0f})"
    if found < FACTOR * chance:
        raise Failed(f"{words}, after {result['work']['updates']} updates; it must be {FACTOR:g} times")
    return words


def _heavy_noise(candidate: Candidate) -> str:
    noise = candidate.noise(ratio=HEAVY)
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
    """Return the kinds of devices, and whether one is here."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def _devices(candidate: Candidate) -> str:
    here = [name for name, present in devices().items() if present]
    for name in here:
        there = replace(candidate, device=torch.device(name), folder=candidate.new_folder())
        try:
            Recorded.of(there.run())
        except Exception as error:
            raise Failed(f"on {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    absent = [name for name, present in devices().items() if not present]
    return f"on {', '.join(here)}" + (f"; not tried, as there is none here: {', '.join(absent)}" if absent else "")


TRAINS = Check(
    "trains",
    "builds backbones, and its first updates yield a finite loss",
    "build networks with task.new_backbone() in setup, and yield {'loss': ...} after every update",
    _trains,
)
LEARNS = Check(
    "learns",
    f"rSum on test is at least {FACTOR:g} times chance after {BUDGET:g} baseline epochs at 20 % noise, on a tiny set",
    "look at the loss and the learning rate; settings for this set alone can be a preset called 'shapes'",
    _learns,
    after=("trains", "budget", "pair-scores"),
)
HEAVY_NOISE = Check(
    "heavy-noise",
    f"losses and weights stay finite at {HEAVY:.0%} noise",
    "guard logarithms and divisions: a batch may have hardly any clean pair, or none",
    _heavy_noise,
    after=("trains", "budget", "pair-scores"),
)
DEVICES = Check(
    "devices",
    "trains on every kind of device that is here",
    "make new tensors on task.device, and take arrays back with .cpu()",
    _devices,
    after=("trains", "budget", "pair-scores"),
)
