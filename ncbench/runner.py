"""One run: build, train within the budget, evaluate on dev at equal work, select, test, record.

The dev split is evaluated each time another 1/n of the budget is spent, after the update that passes the mark. Every
method has its chances to be selected at the same amounts of work, however long its own epochs are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ncbench import environment, memory
from ncbench.backbones import build_backbone
from ncbench.backbones.base import Backbone, Sizes
from ncbench.budget import BudgetSpent, WorkMeter, baseline_epoch_work
from ncbench.data.dataset import Dataset
from ncbench.data.training import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation import detect, evaluate, ranks_i2t, ranks_t2i, rematch_quality
from ncbench.files import write_atomic, write_json
from ncbench.methods import Method, Task
from ncbench.noise import Noise
from ncbench.seeds import derive_seed
from ncbench.similarity import similarity_matrix
from ncbench.store import SCHEMA, History, RunSpec

SMALL_STEP = 10**10  # FLOPs of a training step


class Diverged(Exception):  # noqa: N818 - an outcome of training
    """The loss of an update is not a finite number."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: share of the budget spent, latest loss, best dev rsum so far, what it is doing."""

    share: float
    loss: float | None
    dev_rsum: float | None
    doing: str


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})

    def spend(self, use: str, since: float) -> None:
        """Add the time since `since` (of time.perf_counter) to a use."""
        self.seconds[use] += time.perf_counter() - since


@dataclass
class Selected:
    """The best state on dev so far: weights of every backbone, its rsum, the share of the budget it took."""

    rsum: float = -math.inf
    share: float = 0.0
    weights: list[dict[str, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """FLOPs of plain triplet training under a spec: the budget of the run, and a step."""

    budget: int
    step: int

    @staticmethod
    def of(spec: RunSpec, dataset: Dataset) -> Work:
        """Return the work that `spec` stands for on `dataset`."""
        captions = dataset.splits["train"].captions
        with torch.device("meta"):  # only the cost formulas are needed, not the weights
            backbone = build_backbone(spec.backbone, sizes_of(spec, dataset))
        epoch = baseline_epoch_work(backbone, captions, dataset.batch_size)
        return Work(round(spec.budget * epoch), epoch * dataset.batch_size // len(captions))


def sizes_of(spec: RunSpec, dataset: Dataset) -> Sizes:
    """Return the sizes of the backbone of `spec` on `dataset`."""
    given: dict[str, Any] = dict(spec.sizes)
    return Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), **given)


@contextmanager
def threads_for(step_work: int, device: torch.device) -> Iterator[None]:
    """Train on one thread where steps are so small (FLOPs) that handing them out costs more than it saves.

    A number of threads that the user has set (OMP_NUM_THREADS) is left alone.
    """
    before = torch.get_num_threads()
    if is_small(step_work, device) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero: the Adam moments of rare words decay into them, and they are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def is_small(step_work: int, device: torch.device) -> bool:
    """Return whether steps of `step_work` FLOPs do not fill more than one core of a CPU."""
    return device.type == "cpu" and step_work < SMALL_STEP


class Run:
    """A run in progress; `execute` carries it through and writes its record into `folder`."""

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        noise: Noise,
        method: type[Method],
        folder: Path,
        device: torch.device,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.spec, self.dataset, self.noise, self.folder, self.device = spec, dataset, noise, folder, device
        self.on_progress = on_progress
        self.sizes = sizes_of(spec, dataset)
        self.work = Work.of(spec, dataset)
        self.meter = WorkMeter(self.work.budget)
        self.backbones: list[Backbone] = []
        self.method = method(method.Config(**spec.settings))
        train = dataset.splits["train"]
        self.view = TrainingView(train.images, train.captions, noise.claimed, device)
        self.history = History(folder / "history.jsonl")
        self.clock, self.selected = Clock(), Selected()
        self.updates = 0
        self.loss: float | None = None

    def execute(self) -> dict[str, Any]:
        """Train, select, test and record; returns the result. Raises Diverged, and UserError for a tiny budget."""
        with threads_for(self.work.step, self.device), denormals_flushed():
            return self._execute()

    def _execute(self) -> dict[str, Any]:
        memory.keep_freed_memory()
        memory.reset_peak()
        torch.manual_seed(derive_seed(self.spec.seed, "torch"))
        started = time.time()
        self._train()
        self._load_selected()
        self._report("testing")
        result = self._result()
        measurements = {
            "schema": SCHEMA,
            "started": started,
            "seconds": self.clock.seconds,
            "peak_bytes": environment.peak_bytes(self.device),
            "environment": environment.describe(self.device),
        }
        model = {f"{n}.{name}": w for n, weights in enumerate(self.selected.weights) for name, w in weights.items()}
        write_atomic(self.folder / "model.safetensors", lambda file: file.write(to_safetensors(model)))
        write_json(self.folder / "measurements.json", measurements)
        write_json(self.folder / "result.json", result)
        return result

    def _train(self) -> None:
        seed = derive_seed(self.spec.seed, "method", self.spec.method)
        self.method.setup(Task(self.view, self.device, self.meter, self._new_backbone, seed))
        shares = iter([n / self.spec.evaluations for n in range(1, self.spec.evaluations)])
        due = next(shares, math.inf)
        for scalars in self._timed_updates():
            self.updates += 1
            self.loss = scalars["loss"]
            if not math.isfinite(self.loss):
                raise Diverged(f"the loss is {self.loss} at update {self.updates}")
            if self.meter.progress >= due:
                self._select()
                while self.meter.progress >= due:
                    due = next(shares, math.inf)
            self._report("training")
        if self.updates == 0:
            raise UserError(
                f"a budget of {self.spec.budget:g} is too small for one update of {self.spec.method}; raise --budget."
            )
        self._select()

    def _timed_updates(self) -> Iterator[Mapping[str, float]]:
        """Yield the scalars of every update until the budget is spent, on the training clock."""
        updates = self._updates()
        while True:
            since = time.perf_counter()
            try:
                scalars = next(updates)
            except BudgetSpent:
                return
            finally:
                environment.synchronise(self.device)
                self.clock.spend("training", since)
            yield scalars

    def _updates(self) -> Iterator[Mapping[str, float]]:
        epoch = 0
        while True:
            start = before = self.meter.used
            for scalars in self.method.train_epoch(epoch):
                self._check_work(before, f"an update in epoch {epoch}")
                before = self.meter.used
                yield scalars
            self._check_work(start, f"epoch {epoch}")
            epoch += 1

    def _check_work(self, before: int, what: str) -> None:
        if self.meter.used == before:
            raise RuntimeError(f"{what} of {self.spec.method} did no work: it would go on for ever")

    def _new_backbone(self) -> Backbone:
        backbone = build_backbone(self.spec.backbone, self.sizes).to(self.device)
        backbone.on_work = self.meter.charge
        self.backbones.append(backbone)
        return backbone

    def _select(self) -> None:
        """Evaluate dev, note it, and keep the weights if they are the best so far."""
        self._report("evaluating")
        retrieval = evaluate(self._similarities("dev"), self.dataset.splits["dev"].true)
        if retrieval.rsum > self.selected.rsum:
            weights = [{k: v.detach().cpu().clone() for k, v in b.state_dict().items()} for b in self.backbones]
            self.selected = Selected(retrieval.rsum, self.meter.progress, weights)
        self.history.add(
            share=self.meter.progress,
            work=self.meter.used,
            updates=self.updates,
            loss=self.loss,
            dev=retrieval.to_dict(),
            seconds=self.clock.seconds["training"],
        )

    def _similarities(self, split: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        since = time.perf_counter()
        with self.meter.paused():
            similarities = similarity_matrix(self.backbones, self.dataset.splits[split], self.device)
        self.clock.spend("evaluation", since)
        return similarities

    def _load_selected(self) -> None:
        for backbone, weights in zip(self.backbones, self.selected.weights, strict=True):
            backbone.load_state_dict(weights)

    def _result(self) -> dict[str, Any]:
        similarities, true = self._similarities("test"), self.dataset.splits["test"].true
        write_atomic(
            self.folder / "ranks.npz",
            lambda file: np.savez_compressed(
                file,
                i2t=ranks_i2t(similarities, true).astype(np.int32),
                t2i=ranks_t2i(similarities, true).astype(np.int32),
            ),
        )
        metrics: dict[str, object] = {"test": evaluate(similarities, true, self.dataset.folds).to_dict()}
        if self.dataset.folds > 1:
            metrics["test_unfolded"] = evaluate(similarities, true).to_dict()
        return {
            "schema": SCHEMA,
            "id": self.spec.id,
            "spec": asdict(self.spec),
            "status": "done",
            "metrics": metrics,
            "selected": {"dev_rsum": self.selected.rsum, "share": self.selected.share},
            "work": {"budget": self.meter.total, "used": self.meter.used, "updates": self.updates},
            "mismatched": self.noise.mismatch(self.dataset.splits["train"].true) if self.dataset.truth_known else None,
            "beliefs": self._beliefs() if self.dataset.truth_known else {},
        }

    def _beliefs(self) -> dict[str, object]:
        """Judge what the method believes of the training pairs against the truth that was hidden from it."""
        true = self.dataset.splits["train"].true
        beliefs: dict[str, object] = {}
        with self.meter.paused():
            p_clean, rematches = self.method.pair_scores(), self.method.rematches()
        if p_clean is not None:
            beliefs["detection"] = asdict(detect(p_clean, self.noise.clean(true)))
        if rematches is not None and self.dataset.semantics is not None:
            closeness = partial(self.dataset.semantics.closeness, "train")
            found = (rematches.captions, rematches.images, rematches.weights)
            beliefs["rematches"] = asdict(rematch_quality(*found, self.noise.claimed, closeness))
        return beliefs

    def _report(self, doing: str) -> None:
        best = self.selected.rsum if self.selected.weights else None
        self.on_progress(Progress(self.meter.progress, self.loss, best, doing))
