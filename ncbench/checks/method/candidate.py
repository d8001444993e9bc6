"""The method under examination, on the tiny dataset: complete runs, and the training loop alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ncbench.backbones.registry import backbone_class, check_abilities, members_of, resolve
from ncbench.budget import Budget, Meter, WorkMeter
from ncbench.checks.shapes import Shapes
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.method.base import Method
from ncbench.method.registry import make_config, settings_of
from ncbench.method.settings import Override, apply_overrides, apply_sizes
from ncbench.noise.base import Noise
from ncbench.noise.registry import draw_noise
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.runtime.rng_state import seed_all
from ncbench.runtime.seeds import derive_seed
from ncbench.training.cost import Work
from ncbench.training.loop import Loop, Workshop
from ncbench.training.numbering import Numbering
from ncbench.training.run import Cadence, Run

MAX_BATCH = 32  # pairs; the tiny dataset has 256
RATIO = 0.2
SHORT_BUDGET = 3.0  # baseline epochs, of 8 updates each
PRESETS = ("shapes", "scenes")
NO_CHECKPOINTS = Cadence(epoch=math.inf, midway=math.inf)
CPU = torch.device("cpu")


def settings_for(method: type[Method], overrides: tuple[Override, ...] = ()) -> dict[str, object]:
    """Return the settings for the checks: the preset for `shapes`, else for `scenes`, else the defaults.

    Batches have at most 32 pairs, unless `overrides` say otherwise. Raises UserError for bad overrides and for a method
    without a Config.
    """
    if not is_dataclass(getattr(method, "Config", None)):
        raise UserError(f"method {method.name} has no Config; define a frozen dataclass of its settings.")
    preset = next((name for name in PRESETS if name in method.presets), PRESETS[0])
    settings = settings_of(method, preset)
    for name, value in settings.items():
        if "batch" in name and isinstance(value, int):  # batch_size, warmup_batch, ...
            settings[name] = min(value, MAX_BATCH)
    return apply_overrides(method, settings, overrides)


@dataclass
class Candidate:
    """A method with the settings, backbone and device to check it with; records are written below `folder`.

    Raises UserError if the method refuses the settings or cannot train the backbone.
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
            raise UserError(f"--backbone {self.backbone}: checks need a single network; choose {' or '.join(members)}.")
        self.backbone = resolve(self.backbone)
        check_abilities(self.backbone, self.method.needs_abilities, self.method.name)
        self.settings = settings_for(self.method, self.overrides)
        self.config = make_config(self.method, self.settings)
        self.sizes = apply_sizes(self.dataset.scale, self.overrides)
        self._runs = 0

    def noise(self, dataset: Dataset | None = None, ratio: float = RATIO, seed: int = 0) -> Noise:
        """Return the noise of a run."""
        train = (dataset or self.dataset).splits["train"]
        return draw_noise("shuffle-captions", ratio, train, derive_seed(seed, "noise"))

    def spec(self, dataset: Dataset, noise: Noise, budget: float, seed: int, evaluations: int) -> RunSpec:
        """Return the spec of a run."""
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
            backbone_source=backbone_class(self.backbone).source,
        )

    def run(
        self,
        *,
        dataset: Dataset | None = None,
        noise: Noise | None = None,
        budget: float = SHORT_BUDGET,
        seed: int = 0,
        evaluations: int = 3,
        cadence: Cadence = NO_CHECKPOINTS,
        folder: Path | None = None,
    ) -> Run:
        """Return a run of the method, ready to execute, in `folder` or a new one."""
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
        """Create and return a new folder."""
        self._runs += 1
        folder = self.folder / str(self._runs)
        folder.mkdir(parents=True)
        return folder

    @cached_property
    def plain(self) -> Recorded:
        """The record of a short run without interruptions."""
        return Recorded.of(self.run())

    @cached_property
    def epoch_work(self) -> int:
        """FLOPs of a baseline epoch on the tiny dataset."""
        spec = self.spec(self.dataset, self.noise(), SHORT_BUDGET, 0, 1)
        return Work.of(spec, self.dataset).epoch

    def loop(
        self,
        meter: Meter | None = None,
        *,
        first_weights: int = 0,
        ratio: float = RATIO,
        numbering: Numbering | None = None,
    ) -> Loop:
        """Return the training loop of a method that is not set up yet, with a budget of `SHORT_BUDGET` or a meter.

        Torch is seeded by `first_weights`, which the first weights follow from. Pairs have the numbers of a run unless
        `numbering` says otherwise.
        """
        train, noise = self.dataset.splits["train"], self.noise(ratio=ratio)
        meter = meter or WorkMeter(round(SHORT_BUDGET * self.epoch_work))
        spec = self.spec(self.dataset, noise, SHORT_BUDGET, 0, 1)
        workshop = Workshop(self.backbone, sizes_of(spec, self.dataset), self.device, spec.precision, meter)
        captions = noise.seen(train.captions, self.dataset.vocabulary)
        numbering = numbering or Numbering.draw(len(captions), len(train.images), spec.seed, spec.noise_digest)
        view = numbering.view(train.images, captions, noise.claimed, self.device)
        seed_all(derive_seed(first_weights, "torch"))
        clean = numbering.shown(noise.clean(train.true))
        return Loop(self.method(self.config), view, workshop, meter, spec.seed, clean)


@dataclass(frozen=True)
class Recorded:
    """The result of a finished run and the bytes of its weights, to compare with a run that must be the same."""

    result: dict[str, Any]
    weights: bytes

    @staticmethod
    def of(run: Run) -> Recorded:
        """Execute `run` and return its record. Raises what the run raises."""
        result = run.execute().to_dict()
        return Recorded(result, (run.folder / "model.safetensors").read_bytes())
