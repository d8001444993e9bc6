"""One run: train within the budget, select on dev, test, judge the beliefs of the method, and write the record."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors

from ncbench.backbones.precision import matmul_precision
from ncbench.backbones.registry import backbone_class, members_of
from ncbench.data.dataset import Dataset
from ncbench.data.stamps import check_unchanged
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation.unfinished import Unfinished, unfinished_file
from ncbench.method.base import Method
from ncbench.noise.base import Noise
from ncbench.records.history import History
from ncbench.records.progress import Progress
from ncbench.records.record import HISTORY_FILE, MEASUREMENTS_FILE, RESULT_FILE
from ncbench.records.result import Result
from ncbench.records.spec import RunSpec, check_harness, sizes_of
from ncbench.records.store import CHECKPOINT
from ncbench.runtime import memory, overhead
from ncbench.runtime.files import write_atomic, write_json
from ncbench.runtime.rng_state import random_state, seed_all, set_random_state
from ncbench.runtime.seeds import derive_seed
from ncbench.runtime.signals import Stopped, stop_signal
from ncbench.training.checkpoint import read_snapshot, write_snapshot
from ncbench.training.cost import Work, denormals_flushed, meters_of, threads_for
from ncbench.training.course import CourseJudge
from ncbench.training.numbering import Numbering
from ncbench.training.result import Assessment
from ncbench.training.trainer import Clock, Trainer

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cadence:
    """Least seconds between checkpoints: at the end of an epoch, and in the middle of one."""

    epoch: float = 10.0
    midway: float = 120.0


DEFAULT_CADENCE = Cadence()


class Run:
    """A run; `execute` completes it and writes its record into `folder`. Raises UserError for another harness's spec.

    The members of an ensemble are trained one after the other. Each has its own method, its part of the budget and its
    own selection on dev; their similarities are averaged (SGRAF, AAAI 2021, section 4).
    """

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        noise: Noise,
        method: type[Method],
        folder: Path,
        device: torch.device,
        on_progress: Callable[[Progress], None],
        cadence: Cadence = DEFAULT_CADENCE,
        should_stop: Callable[[], bool] = lambda: stop_signal() is not None,
    ) -> None:
        check_harness(spec, f"run {spec.id}")
        _check_backbone_file(spec)
        self.spec, self.dataset, self.noise, self.folder, self.device = spec, dataset, noise, folder, device
        self.on_progress, self.cadence, self.should_stop = on_progress, cadence, should_stop
        self.work = Work.of(spec, dataset)
        self.clock = Clock()
        self._saved_at = -1
        self._resumed_at: float | None = None
        self.history, sizes = History(folder / HISTORY_FILE), sizes_of(spec, dataset)
        self.trainers = [
            Trainer(
                spec,
                name,
                sizes,
                method(method.Config(**spec.settings)),
                meter,
                device,
                self.clock,
                self.history,
            )
            for name, meter in zip(members_of(spec.backbone), meters_of(spec, dataset), strict=True)
        ]
        for number, trainer in enumerate(self.trainers):
            trainer.unfinished = self._unfinished(number, "dev")
        train = dataset.splits["train"]
        self.numbering = Numbering.draw(len(train.captions), len(train.images), spec.seed, spec.noise_digest)
        for trainer in self.trainers:
            trainer.course_judge = CourseJudge(dataset, noise, self.numbering)
        unfinished = partial(self._unfinished, len(self.trainers) - 1)
        self.assessment = Assessment(
            spec, dataset, noise, self.numbering, self.trainers, self.clock, device, unfinished
        )

    def execute(self) -> Result:
        """Train, select, test and record; return the result.

        If the folder has a checkpoint, training resumes from it and ends in the same result. Raises Diverged, UserError
        if the budget is too small for an update, and Stopped, after writing a checkpoint, once `should_stop` is true.
        """
        with threads_for(self.work.step, self.device), denormals_flushed(), matmul_precision(self.spec.precision):
            return self._execute()

    def _execute(self) -> Result:
        memory.keep_freed_memory()
        memory.reset_peak()
        started = time.time()
        seed_all(derive_seed(self.spec.seed, "torch"))
        train, dev = self.dataset.splits["train"], self.dataset.splits["dev"]
        captions = self.noise.seen(train.captions, self.dataset.vocabulary)
        view = self.numbering.view(train.images, captions, self.noise.claimed, self.device)
        truth = self.numbering.shown(self.noise.clean(train.true)) if self.dataset.truth_known else None
        overhead.reset({})
        begun = self._resume(view, truth)
        done = sum(trainer.updates for trainer in self.trainers)
        self._resumed_at = self._share() if begun else None
        LOG.info("run %s: %s", self.spec.id, f"resumes after {done} updates" if begun else f"starts in {self.folder}")
        self._saved = time.monotonic()
        for number, trainer in enumerate(self.trainers):
            if number >= begun:
                trainer.set_up(view, truth)
            if not trainer.done:
                trainer.train(dev, partial(self._report, trainer), partial(self._between, number))
        self._report(self.trainers[-1], "testing")
        check_unchanged(self.dataset.files)
        result = self.assessment.result(self.folder)
        measurements = self.assessment.measurements(started, self._resumed_at)
        selected = chain.from_iterable(trainer.selected.weights for trainer in self.trainers)
        model = {f"{n}.{name}": weight for n, weights in enumerate(selected) for name, weight in weights.items()}
        write_atomic(self.folder / "model.safetensors", lambda file: file.write(to_safetensors(model)))
        write_json(self.folder / MEASUREMENTS_FILE, measurements.to_dict())
        write_json(self.folder / RESULT_FILE, result.to_dict())
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)
        LOG.info("run %s: recorded in %s", self.spec.id, self.folder)
        return result

    def _unfinished(self, number: int, split: str) -> Unfinished:
        """Return what keeps the similarities of a split while trainer `number`, or the last one, is evaluated."""
        return Unfinished(unfinished_file(self.folder / CHECKPOINT, split), partial(self._between, number, True))

    def _between(self, number: int, at_rest: bool) -> None:
        """Write a checkpoint while trainer `number` trains or is evaluated, if one is due. Raises Stopped on request.

        `at_rest`: an epoch is over, or a block of an evaluation.
        """
        stop = self.should_stop()
        waited = time.monotonic() - self._saved
        due = waited >= (self.cadence.epoch if at_rest else self.cadence.midway)
        if (due or stop) and self.trainers[number].resumable:
            self._save(number)
        if stop:
            raise Stopped

    def _save(self, number: int) -> None:
        """Write a checkpoint of the trainers up to `number`, unless this state is saved.

        Raises UserError if the files of the data have changed.
        """
        reached = self._reached(number)
        if reached == self._saved_at:
            return
        check_unchanged(self.dataset.files)
        since = time.perf_counter()
        state = {
            "trainers": [trainer.state_dict() for trainer in self.trainers[: number + 1]],
            "random": random_state(),
            "seconds": dict(self.clock.seconds),
            "outside": overhead.spent(),
            "history": list(self.history.lines),
        }
        write_snapshot(self.folder / CHECKPOINT, reached, state)
        updates = sum(trainer.updates for trainer in self.trainers[: number + 1])
        LOG.debug("run %s: checkpoint after %d updates", self.spec.id, updates)
        self._saved_at = reached
        self.clock.spend("checkpoints", since)
        self._saved = time.monotonic()

    def _reached(self, number: int) -> int:
        """Return how far the trainers up to `number` are: it grows with all that changes their state."""
        parts = ((trainer.updates, trainer.loop.epoch, trainer.over) for trainer in self.trainers[: number + 1])
        return sum(map(sum, parts)) + len(self.history.lines)

    def _resume(self, view: TrainingView, truth: NDArray[np.bool_] | None) -> int:
        """Restore the latest checkpoint, if there is one; return how many trainers it holds.

        Raises UserError for a checkpoint that does not fit.
        """
        state = read_snapshot(self.folder / CHECKPOINT, partial(warnings.warn, category=RuntimeWarning, stacklevel=2))
        if state is None:
            return 0
        try:
            for trainer, held in zip(self.trainers, state["trainers"], strict=False):
                trainer.set_up(view, truth)
                trainer.load_state_dict(held)
            self.clock.seconds.update(state["seconds"])
            overhead.reset(state["outside"])
            self.history.lines = state["history"]
            set_random_state(state["random"])
            self._saved_at = self._reached(len(state["trainers"]) - 1)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.folder / CHECKPOINT}: does not fit this version of {self.spec.method} ({error}); "
                "resume with the version that wrote it, or delete it to start over"
            ) from error
        return len(state["trainers"])

    def _report(self, trainer: Trainer, doing: str) -> None:
        best = trainer.selected.rsum if trainer.selected.weights else None
        self.on_progress(Progress(self._share(), trainer.loss, best, doing, resumed_at=self._resumed_at))

    def _share(self) -> float:
        return sum(trainer.meter.progress for trainer in self.trainers) / len(self.trainers)


def _check_backbone_file(spec: RunSpec) -> None:
    """Raise UserError unless the backbone that has the name in `spec` is the one that the run was planned with."""
    found = backbone_class(spec.backbone).source
    if found != spec.backbone_source:
        raise UserError(
            f"run {spec.id}: planned with backbone {spec.backbone} {spec.backbone_source or '(installed)'}, found "
            f"{found or '(installed)'}; plan it again"
        )
