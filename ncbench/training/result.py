"""The result of a run: scores on test, work spent, and beliefs judged against the hidden ground truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec
import numpy as np
import torch

from ncbench.budget import WorkMeter
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import Beliefs
from ncbench.evaluation.blocks import Scored
from ncbench.evaluation.outcome import retrieval_of
from ncbench.evaluation.retrieval import FloatVector
from ncbench.evaluation.unfinished import Unfinished
from ncbench.method.base import Plan, Rematches
from ncbench.noise.base import Noise
from ncbench.records.arrays import BELIEFS_FILE, save_beliefs
from ncbench.records.judgement import judge
from ncbench.records.measurements import Audited, Environment, Measurements, Seconds
from ncbench.records.result import Judgement, Result, Selected, Selection, WorkSpent
from ncbench.records.scored import save_scores
from ncbench.records.spec import RunSpec
from ncbench.runtime import environment, overhead
from ncbench.runtime.device import peak_bytes
from ncbench.training.blind_scoring import score_blindly
from ncbench.training.cost import Work
from ncbench.training.numbering import Numbering
from ncbench.training.trainer import Clock, Trainer


@dataclass(frozen=True)
class Assessment:
    """Tests and judges what `trainers`, one per member of an ensemble, have learned in the run of `spec`.

    The similarities of the members are averaged (SGRAF, AAAI 2021, section 4).
    """

    spec: RunSpec
    dataset: Dataset
    noise: Noise
    numbering: Numbering
    trainers: Sequence[Trainer]
    clock: Clock
    device: torch.device
    unfinished: Callable[[str], Unfinished] | None = None
    """Returns what keeps the similarities of a split while they are computed."""

    def result(self, folder: Path) -> Result:
        """Return the result, after writing ranks, retrieved items and beliefs into `folder`. Raises OSError."""
        with self.similarities("test") as similarities:
            metrics = save_scores(folder, similarities, self.dataset, self.spec.method)
        beliefs = self._beliefs()
        save_beliefs(folder / BELIEFS_FILE, beliefs)
        known = self.dataset.truth_known
        return Result(
            id=self.spec.id,
            spec=self.spec,
            vocabulary_digest=self.dataset.vocabulary.digest,
            sees_truth=self.trainers[0].method.needs_truth,
            clean_pairs_given=len(self.trainers[0].given_clean),
            metrics=metrics,
            selected=self._selected(),
            work=self._work(),
            mismatched=self.noise.mismatch(self.dataset.splits["train"].true) if known else None,
            beliefs=judge(beliefs, self.noise, self.dataset) if known else Judgement(),
        )

    def measurements(self, started: float, resumed_at: float | None = None) -> Measurements:
        """Return what was measured in this process since `started`, in seconds since the epoch.

        It resumed the run at the share `resumed_at` of the budget; None if it started the run.
        """
        return Measurements(
            started=started,
            seconds=Seconds(**self.clock.seconds),
            overhead=overhead.spent(),
            peak_bytes=peak_bytes(self.device),
            audited=sum((trainer.audited() for trainer in self.trainers), Audited()),
            resumed_at=resumed_at,
            environment=msgspec.convert(environment.describe(self.device), Environment),
        )

    @contextmanager
    def similarities(self, split: str) -> Iterator[Scored]:
        """Provide the similarities (images, captions) of a split, averaged over all backbones.

        Those of a large split are scored when they are read, which must be inside the block.
        """
        since = time.perf_counter()
        with ExitStack() as stack:
            for trainer in self.trainers:
                stack.enter_context(trainer.meter.paused())
            backbones = [backbone for trainer in self.trainers for backbone in trainer.backbones]
            yield score_blindly(
                self.trainers[0].method,
                backbones,
                self.dataset.splits[split],
                self.device,
                self.spec.noise_digest,
                self.unfinished(split) if self.unfinished is not None else None,
            )
        self.clock.spend("evaluation", since)

    def _work(self) -> WorkSpent:
        meters = [trainer.meter for trainer in self.trainers]
        return WorkSpent(
            budget=sum(meter.total for meter in meters if isinstance(meter, WorkMeter)) or None,
            baseline_epoch=Work.of(self.spec, self.dataset).epoch,
            used=sum(meter.used for meter in meters),
            pair_passes=sum(meter.pair_passes for meter in meters),
            samples=sum(meter.samples for meter in meters),
            updates=sum(trainer.updates for trainer in self.trainers),
        )

    def _selected(self) -> Selected:
        found = {trainer.name: Selection(trainer.selected.rsum, trainer.selected.share) for trainer in self.trainers}
        if len(found) == 1:
            (only,) = found.values()
            return Selected(only.dev_rsum, only.share)
        with self.similarities("dev") as similarities:
            whole = retrieval_of(similarities, self.dataset.splits["dev"].true)
        return Selected(whole.rsum, max(one.share for one in found.values()), found)

    def _beliefs(self) -> Beliefs:
        """Return the beliefs about the training pairs at the end, with the numbers of the dataset.

        For an ensemble, P(clean) and soft labels are means over the members, rematches those of all members, and the
        plan that of the first.
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
                p_clean.append(self.numbering.restored(scores))
            if labels is not None:
                soft_labels.append(self.numbering.restored(labels))
            if found is not None:
                rematches.append(self.numbering.restored_rematches(found))
            if plan is not None:
                plans.append(self.numbering.restored_plan(plan))
        joined = [
            np.concatenate([getattr(found, f.name) for found in rematches]) for f in fields(Rematches) if rematches
        ]
        true, known = self.dataset.splits["train"].true, self.dataset.truth_known
        return Beliefs(
            np.mean(p_clean, axis=0) if p_clean else None,
            np.mean(soft_labels, axis=0) if soft_labels else None,
            Rematches(*joined) if rematches else None,
            self.numbering.restored_pairs(self.trainers[0].given_clean),
            plans[0] if plans else None,
            self.noise.clean(true) if known else None,
            true[plans[0].captions] if known and plans else None,
        )
