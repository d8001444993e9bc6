"""One run: train within the budget, test what was selected on dev, judge what the method believes, record."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors

from ncbench.backbones.precision import matmul_precision
from ncbench.backbones.registry import members_of
from ncbench.budget import WorkMeter
from ncbench.data.dataset import Dataset, FloatArray
from ncbench.data.stamps import check_unchanged
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation.beliefs import Beliefs, detect, rank_correlation, rematch_quality
from ncbench.evaluation.retrieval import FloatVector, evaluate, rank
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.evaluation.top_k import retrieve
from ncbench.method.base import Method, Plan, Rematches
from ncbench.noise.base import Noise
from ncbench.records import arrays
from ncbench.records.arrays import save_beliefs, save_ranks, save_retrieved
from ncbench.records.progress import Progress
from ncbench.records.spec import SCHEMA, RunSpec, sizes_of
from ncbench.records.store import History
from ncbench.runtime import environment, memory, overhead
from ncbench.runtime.device import peak_bytes
from ncbench.runtime.files import write_atomic, write_json
from ncbench.runtime.rng_state import random_state, seed_all, set_random_state
from ncbench.runtime.seeds import derive_seed
from ncbench.runtime.signals import Stopped, stop_signal
from ncbench.training.checkpoint import read_snapshot, write_snapshot
from ncbench.training.cost import Work, denormals_flushed, meters_of, threads_for
from ncbench.training.trainer import Clock, Trainer

LOG = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Cadence:
    """Seconds from one checkpoint to the next: after an epoch, and in the middle of one."""

    epoch: float = 10.0
    midway: float = 120.0


USUAL = Cadence()


class Run:
    """A run in progress; `execute` carries it through and writes its record into `folder`.

    The members of an ensemble are trained one after the other, each by a method of its own within the work that the
    budget means for it, and selected each on its own; their similarities are averaged (SGRAF, AAAI 2021, section 4).
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
        cadence: Cadence = USUAL,
        should_stop: Callable[[], bool] = lambda: stop_signal() is not None,
    ) -> None:
        self.spec, self.dataset, self.noise, self.folder, self.device = spec, dataset, noise, folder, device
        self.on_progress, self.cadence, self.should_stop = on_progress, cadence, should_stop
        self.work = Work.of(spec, dataset)
        self.clock = Clock()
        self.history, sizes = History(folder / "history.jsonl"), sizes_of(spec, dataset)
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

    def execute(self) -> dict[str, Any]:
        """Train, select, test and record; returns the result. Raises Diverged, and UserError for a tiny budget.

        Where the folder holds a checkpoint, training goes on from there, to the same result. Raises Stopped, after
        writing one, as soon as `should_stop`.
        """
        with threads_for(self.work.step, self.device), denormals_flushed(), matmul_precision(self.spec.precision):
            return self._execute()

    def _execute(self) -> dict[str, Any]:
        memory.keep_freed_memory()
        memory.reset_peak()
        started = time.time()
        seed_all(derive_seed(self.spec.seed, "torch"))
        train, dev = self.dataset.splits["train"], self.dataset.splits["dev"]
        captions = self.noise.seen(train.captions, self.dataset.vocabulary)
        view = TrainingView(train.images, captions, self.noise.claimed, self.device)
        truth = self.noise.clean(train.true) if self.dataset.truth_known else None
        overhead.reset({})
        begun = self._go_on(view, truth)
        done = sum(trainer.updates for trainer in self.trainers)
        LOG.info("run %s: %s", self.spec.id, f"goes on after {done} updates" if begun else f"begins, in {self.folder}")
        self._saved = time.monotonic()
        for number, trainer in enumerate(self.trainers):
            if number >= begun:
                trainer.set_up(view, truth)
            if not trainer.done:
                trainer.train(dev, partial(self._report, trainer), partial(self._between, number))
        self._report(self.trainers[-1], "testing")
        check_unchanged(self.dataset.files)
        result = self._result()
        measurements = {
            "schema": SCHEMA,
            "started": started,
            "seconds": self.clock.seconds,
            "outside": overhead.spent(),
            "peak_bytes": peak_bytes(self.device),
            "environment": environment.describe(self.device),
        }
        selected = chain.from_iterable(trainer.selected.weights for trainer in self.trainers)
        model = {f"{n}.{name}": weight for n, weights in enumerate(selected) for name, weight in weights.items()}
        write_atomic(self.folder / "model.safetensors", lambda file: file.write(to_safetensors(model)))
        write_json(self.folder / "measurements.json", measurements)
        write_json(self.folder / "result.json", result)
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)
        LOG.info("run %s: recorded in %s", self.spec.id, self.folder)
        return result

    def _between(self, number: int, epoch_is_over: bool) -> None:
        """Write a checkpoint while trainer `number` trains, if it is time; raise Stopped if that was asked for."""
        stop = self.should_stop()
        waited = time.monotonic() - self._saved
        due = waited >= (self.cadence.epoch if epoch_is_over else self.cadence.midway)
        if (due or stop) and self.trainers[number].resumable:
            self._save(number)
        if stop:
            raise Stopped

    def _save(self, number: int) -> None:
        """Write a checkpoint of trainer `number`, and of those before it. Raises UserError if the data have changed."""
        check_unchanged(self.dataset.files)
        since = time.perf_counter()
        state = {
            "trainers": [trainer.state_dict() for trainer in self.trainers[: number + 1]],
            "random": random_state(),
            "seconds": dict(self.clock.seconds),
            "outside": overhead.spent(),
            "history": list(self.history.lines),
        }
        updates = sum(trainer.updates for trainer in self.trainers)
        write_snapshot(self.folder / CHECKPOINT, updates, state)
        LOG.debug("run %s: checkpoint after %d updates", self.spec.id, updates)
        self.clock.spend("checkpoints", since)
        self._saved = time.monotonic()

    def _go_on(self, view: TrainingView, truth: NDArray[np.bool_] | None) -> int:
        """Take back the latest checkpoint, if there is one; return how many trainers it holds.

        Raises UserError for the checkpoint of something else.
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
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.folder / CHECKPOINT}: does not fit this version of {self.spec.method} ({error}); "
                "go on with the version that wrote it, or delete it to begin anew."
            ) from error
        return len(state["trainers"])

    def _similarities(self, split: str) -> FloatArray:
        since = time.perf_counter()
        with ExitStack() as stack:
            for trainer in self.trainers:
                stack.enter_context(trainer.meter.paused())
            backbones = [backbone for trainer in self.trainers for backbone in trainer.backbones]
            similarities = similarity_matrix(backbones, self.dataset.splits[split], self.device)
        self.clock.spend("evaluation", since)
        return similarities

    def _result(self) -> dict[str, Any]:
        similarities, true = self._similarities("test"), self.dataset.splits["test"].true
        whole = rank(similarities, true)
        folded = rank(similarities, true, self.dataset.folds) if self.dataset.folds > 1 else None
        save_ranks(self.folder / "ranks.npz", whole, folded)
        save_retrieved(self.folder / arrays.TOP_K_FILE, retrieve(similarities, true))
        believed = self._believed()
        save_beliefs(self.folder / arrays.BELIEFS_FILE, believed)
        meters = [trainer.meter for trainer in self.trainers]
        metrics: dict[str, object] = {"test": (folded or whole).retrieval().to_dict()}
        if folded is not None:
            metrics["test_unfolded"] = whole.retrieval().to_dict()
        return {
            "schema": SCHEMA,
            "id": self.spec.id,
            "spec": self.spec.to_dict(),
            "status": "done",
            "vocabulary_digest": self.dataset.vocabulary.digest,
            "told_truth": self.trainers[0].method.needs_truth,
            "told_clean": len(self.trainers[0].told),
            "metrics": metrics,
            "selected": self._selected(),
            "work": {
                "budget": sum(meter.total for meter in meters if isinstance(meter, WorkMeter)) or None,
                "baseline_epoch": self.work.epoch,
                "used": sum(meter.used for meter in meters),
                "pair_passes": sum(meter.pair_passes for meter in meters),
                "samples": sum(meter.samples for meter in meters),
                "updates": sum(trainer.updates for trainer in self.trainers),
            },
            "mismatched": self.noise.mismatch(self.dataset.splits["train"].true) if self.dataset.truth_known else None,
            "beliefs": self._judged(believed) if self.dataset.truth_known else {},
        }

    def _selected(self) -> dict[str, object]:
        """Return the dev rsum of what was selected, and when it was; for an ensemble, of the whole and each member."""
        each = [{"dev_rsum": t.selected.rsum, "share": t.selected.share} for t in self.trainers]
        if len(each) == 1:
            return dict(each[0])
        whole = evaluate(self._similarities("dev"), self.dataset.splits["dev"].true)
        latest = max(trainer.selected.share for trainer in self.trainers)
        members = {trainer.name: dict(found) for trainer, found in zip(self.trainers, each, strict=True)}
        return {"dev_rsum": whole.rsum, "share": latest, "members": members}

    def _believed(self) -> Beliefs:
        """Return what the method believes of the training pairs at the end.

        The members of an ensemble are believed alike: P(clean) and soft labels are their means, rematches those of all;
        the plan is that of the first.
        """
        p_clean: list[FloatVector] = []
        soft_labels: list[FloatVector] = []
        rematches: list[Rematches] = []
        plans: list[Plan] = []
        for trainer in self.trainers:
            with trainer.meter.paused():
                method = trainer.method
                scores, labels, found = method.pair_scores(), method.soft_labels(), method.rematches()
                plan = method.transport_plan()
            if scores is not None:
                p_clean.append(scores)
            if labels is not None:
                soft_labels.append(labels)
            if found is not None:
                rematches.append(found)
            if plan is not None:
                plans.append(plan)
        joined = [
            np.concatenate([getattr(found, f.name) for found in rematches]) for f in fields(Rematches) if rematches
        ]
        true, known = self.dataset.splits["train"].true, self.dataset.truth_known
        return Beliefs(
            np.mean(p_clean, axis=0) if p_clean else None,
            np.mean(soft_labels, axis=0) if soft_labels else None,
            Rematches(*joined) if rematches else None,
            self.trainers[0].told,
            plans[0] if plans else None,
            self.noise.clean(true) if known else None,
            true[plans[0].captions] if known and plans else None,
        )

    def _judged(self, believed: Beliefs) -> dict[str, object]:
        """Judge what the method believes of the training pairs against the truth that was hidden from it.

        Pairs that it was told are clean are left out: there is nothing to find out about them.
        """
        clean, claimed = self.noise.clean(self.dataset.splits["train"].true), self.noise.claimed
        semantics = self.dataset.semantics
        # What a caption means that holds words of another one, nobody has said.
        known = semantics is not None and self.noise.splices is None
        closeness = partial(semantics.closeness, "train") if semantics is not None and known else None
        untold = np.setdiff1d(np.arange(len(clean)), believed.told)
        beliefs: dict[str, object] = {}
        if believed.p_clean is not None:
            beliefs["detection"] = asdict(detect(believed.p_clean[untold], clean[untold]))
        if believed.soft_labels is not None:
            labels, wrong = believed.soft_labels, np.flatnonzero(~clean)
            follows = (
                rank_correlation(labels[wrong], closeness(wrong, claimed[wrong])) if closeness is not None else None
            )
            judged = asdict(detect(labels[untold], clean[untold]))
            beliefs["soft_labels"] = {**judged, "closeness_correlation": follows}
        if believed.rematches is not None and closeness is not None:
            found = believed.rematches
            n_images = len(self.dataset.splits["train"].images)
            quality = rematch_quality(found.captions, found.images, found.weights, claimed, closeness, n_images)
            beliefs["rematches"] = asdict(quality)
        return beliefs

    def _report(self, trainer: Trainer, doing: str) -> None:
        best = trainer.selected.rsum if trainer.selected.weights else None
        share = sum(other.meter.progress for other in self.trainers) / len(self.trainers)
        self.on_progress(Progress(share, trainer.loss, best, doing))
