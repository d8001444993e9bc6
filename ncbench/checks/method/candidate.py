"""The method under examination, on the tiny dataset: whole runs of it, and its bare loop without a runner."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ncbench.backbones.registry import check_abilities, members_of, resolve
from ncbench.budget import Budget, BudgetSpent, Meter, WorkMeter
from ncbench.checks.shapes import Shapes
from ncbench.data.dataset import Dataset
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.method.base import Method, Task
from ncbench.method.registry import make_config, settings_of
from ncbench.method.settings import Override, apply_overrides, apply_sizes
from ncbench.noise.base import Noise
from ncbench.noise.registry import draw_noise
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.runtime.rng_state import seed_all
from ncbench.runtime.seeds import derive_seed
from ncbench.training.clean_pairs import draw_clean_pairs
from ncbench.training.cost import Work
from ncbench.training.loop import Workshop
from ncbench.training.run import Cadence, Run

LARGEST_BATCH = 32  # pairs; the tiny dataset has 256
RATIO = 0.2
SHORT = 3.0  # baseline epochs, of 8 updates each
PRESETS = ("shapes", "scenes")
NEVER = Cadence(epoch=math.inf, midway=math.inf)
CPU = torch.device("cpu")


def settings_for(method: type[Method], overrides: tuple[Override, ...] = ()) -> dict[str, object]:
    """Return the settings with which `method` is examined: its preset for `shapes`, else that for `scenes`, else its
    defaults, with batches of at most 32 pairs, and `overrides` on top.

    Raises UserError for these, and for a method without a Config.
    """
    if not is_dataclass(getattr(method, "Config", None)):
        raise UserError(f"method {method.name} has no Config, a frozen dataclass of its settings; give it one.")
    preset = next((name for name in PRESETS if name in method.presets), PRESETS[0])
    settings = settings_of(method, preset)
    batch = settings.get("batch_size")
    if isinstance(batch, int):
        settings["batch_size"] = min(batch, LARGEST_BATCH)
    return apply_overrides(method, settings, overrides)


@dataclass
class Candidate:
    """A method with the settings, the backbone and the device on which it is examined; records go below `folder`.

    Raises UserError where the method refuses the settings, or cannot train the backbone.
    """

    method: type[Method]
    folder: Path
    backbone: str = "vse"
    device: torch.device = CPU
    overrides: tuple[Override, ...] = ()
    dataset: Dataset = field(default_factory=lambda: Shapes().load())
    sizes: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        members = members_of(resolve(self.backbone))
        if len(members) > 1:
            raise UserError(f"--backbone {self.backbone}: checks take one network; choose {' or '.join(members)}.")
        self.backbone = resolve(self.backbone)
        check_abilities(self.backbone, self.method.needs_abilities, self.method.name)
        self.settings = settings_for(self.method, self.overrides)
        self.config = make_config(self.method, self.settings)
        self.sizes = apply_sizes(self.dataset.scale, self.overrides)
        self._runs = 0

    def noise(self, dataset: Dataset | None = None, ratio: float = RATIO, seed: int = 0) -> Noise:
        """Return the noise of a run."""
        train = (dataset or self.dataset).splits["train"]
        return draw_noise("shuffle-captions", ratio, train.true, len(train.images), derive_seed(seed, "noise"))

    def spec(self, dataset: Dataset, noise: Noise, budget: float, seed: int, evaluations: int) -> RunSpec:
        """Return what defines a run."""
        return RunSpec.of(
            dataset,
            noise,
            self.method,
            self.settings,
            backbone=self.backbone,
            budget=Budget(budget),
            evaluations=evaluations,
            seed=seed,
            sizes=self.sizes,
        )

    def run(
        self,
        *,
        dataset: Dataset | None = None,
        noise: Noise | None = None,
        budget: float = SHORT,
        seed: int = 0,
        evaluations: int = 3,
        cadence: Cadence = NEVER,
        folder: Path | None = None,
    ) -> Run:
        """Return a run of the method, ready to be executed, in a folder of its own unless one is given."""
        dataset = dataset or self.dataset
        noise = noise or self.noise(dataset, seed=seed)
        spec = self.spec(dataset, noise, budget, seed, evaluations)
        return Run(
            spec,
            dataset,
            noise,
            self.method,
            folder or self.new_folder(),
            self.device,
            lambda _: None,
            cadence,
            should_stop=lambda: False,
        )

    def new_folder(self) -> Path:
        """Return a folder that nothing else uses, made."""
        self._runs += 1
        folder = self.folder / str(self._runs)
        folder.mkdir(parents=True)
        return folder

    @cached_property
    def plain(self) -> Recorded:
        """The record of a short run that nothing disturbs."""
        return Recorded.of(self.run())

    @cached_property
    def epoch_work(self) -> int:
        """FLOPs of a baseline epoch on the tiny dataset."""
        spec = self.spec(self.dataset, self.noise(), SHORT, 0, 1)
        return Work.of(spec, self.dataset).epoch

    def loop(self, meter: Meter | None = None, *, ratio: float = RATIO, first_weights: int = 0) -> Loop:
        """Return the bare loop of a method that is not set up yet, with a budget of `SHORT` unless a meter is given."""
        return Loop(self, meter or WorkMeter(round(SHORT * self.epoch_work)), self.noise(ratio=ratio), first_weights)


class Loop:
    """A method and its task, epoch after epoch, with nothing around it: no dev, no clock, no checkpoints."""

    def __init__(self, candidate: Candidate, meter: Meter, noise: Noise, first_weights: int) -> None:
        self.meter, self.candidate, self.noise = meter, candidate, noise
        self.method = candidate.method(candidate.config)
        train = candidate.dataset.splits["train"]
        spec = candidate.spec(candidate.dataset, noise, SHORT, 0, 1)
        self.workshop = Workshop(
            candidate.backbone, sizes_of(spec, candidate.dataset), candidate.device, spec.precision, meter.charge
        )
        clean: NDArray[np.bool_] = noise.clean(train.true)
        needed = self.method.clean_pairs_needed(len(train.captions))
        captions = noise.seen(train.captions, candidate.dataset.vocabulary)
        self.view = TrainingView(train.images, captions, noise.claimed, candidate.device)
        self.task = Task(
            self.view,
            candidate.device,
            meter,
            self.workshop,
            derive_seed(0, "method", candidate.method.name),
            clean if self.method.needs_truth else None,
            draw_clean_pairs(candidate.method.name, needed, clean, 0) if needed else None,
        )
        self._first_weights = first_weights
        self.epoch = 0

    def set_up(self) -> None:
        """Let the method build what it trains."""
        seed_all(derive_seed(self._first_weights, "torch"))
        self.view.begin_epoch()
        self.method.setup(self.task)

    def updates(self) -> Iterator[Mapping[str, float] | None]:
        """Yield the scalars of every update until the budget is spent; None after an epoch."""
        while True:
            steps = iter(self.method.train_epoch(self.epoch))
            while True:
                try:
                    self.meter.start()
                    scalars = next(steps)
                except StopIteration:
                    break
                except BudgetSpent:
                    return
                finally:
                    self.meter.stop()
                yield scalars
            self.view.begin_epoch()
            self.epoch += 1
            self.meter.epoch_over()
            yield None


@dataclass(frozen=True)
class Recorded:
    """What a finished run left behind that a run like it must leave too: its result, and the bytes of its weights."""

    result: dict[str, Any]
    weights: bytes

    @staticmethod
    def of(run: Run) -> Recorded:
        """Execute `run` and return its record. Raises what the run raises."""
        result = run.execute().to_dict()
        return Recorded(result, (run.folder / "model.safetensors").read_bytes())
