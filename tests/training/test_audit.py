"""The second count of work: it changes nothing, and sees what is not charged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_methods import Unseen
from runs import prepare_run
from toy_methods import Toy

from ncbench.data.dataset import Dataset
from ncbench.records.record import Record
from ncbench.records.work import work_problems
from ncbench.runtime.products import counting
from ncbench.training.audit import FIRST_WITHIN


class Unmetered(Toy):
    """Takes the meter off its network, and charges a little for every update."""

    def setup(self, task: Any) -> None:
        super().setup(task)
        self.nets[0].on_work = lambda *_, **__: None

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for scalars in super().train_epoch(epoch):
            self.task.budget.charge(1000, 8, 8)
            yield scalars


@pytest.mark.parametrize(("kind", "seen"), [(Toy, False), (Unmetered, True), (Unseen, True)])
def test_what_is_not_charged_is_seen(kind: type[Any], seen: bool, tiny: Dataset, tmp_path: Path) -> None:
    settings = {"batch_size": 8} if kind is Unseen else None
    prepare_run(tiny, tmp_path, kind, budget=0.2 if kind is Unmetered else 3.0, settings=settings).execute()
    problems = list(work_problems(Record(tmp_path)))
    assert any("updates that were watched, torch counted" in problem for problem in problems) == seen, problems


def test_watching_changes_nothing(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, weights = [], []
    for name, gap in (("always", 1), ("never", 10**9)):
        monkeypatch.setattr(random.SystemRandom, "randint", lambda *_, gap=gap: gap)
        prepare_run(tiny, tmp_path / name, Toy, "saf", budget=3.0).execute()
        results.append((tmp_path / name / "result.json").read_bytes())
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert results[0] == results[1]
    assert weights[0] == weights[1]
    found = [Record(tmp_path / name).measurements.audited for name in ("always", "never")]  # type: ignore[union-attr]
    assert found[0] is not None
    assert found[0].charged == Record(tmp_path / "always").result.work.used
    assert found[1] is not None
    assert found[1].updates == 0


def test_few_updates_of_many_are_watched(tiny: Dataset, tmp_path: Path) -> None:
    run = prepare_run(tiny, tmp_path, Toy, budget=1.0)
    trainer = run.trainers[0]
    run.execute()
    audit, watched = trainer.audit, 0
    for _ in range(5000):
        before = audit._watched
        audit.watch(lambda: None)
        watched += audit._watched > before
    assert 6 <= watched <= 60
    assert audit._number > 5000
    kept = audit.state_dict()
    audit.load_state_dict(kept)
    assert audit.state_dict() == kept
    assert 1 <= audit._next - audit._number <= FIRST_WITHIN


A, ROWS, STACK = torch.ones(3, 4), torch.ones(4, 5), torch.ones(2, 4, 5)
SUM = torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("product", "flops"),
    [
        (lambda: A @ ROWS, 2 * 3 * 4 * 5),
        (lambda: torch.addmm(SUM, A, ROWS), 2 * 3 * 4 * 5),
        (lambda: torch.mm(A, ROWS, out=SUM.clone()), 2 * 3 * 4 * 5),
        (lambda: SUM.clone().addmm_(A, ROWS), 2 * 3 * 4 * 5),
        (lambda: SUM.expand(2, 3, 5).clone().baddbmm_(A.expand(2, 3, 4), STACK), 2 * 2 * 3 * 4 * 5),
        (lambda: torch.addbmm(SUM, A.expand(2, 3, 4), STACK), 2 * 2 * 3 * 4 * 5),
        (lambda: SUM.clone().addbmm_(A.expand(2, 3, 4), STACK), 2 * 2 * 3 * 4 * 5),
        (lambda: torch.einsum("ij,njk->nik", A, STACK), 2 * 2 * 3 * 4 * 5),
        (lambda: A + A, 0),
    ],
)
def test_products_are_counted_however_they_are_written(product: Callable[[], torch.Tensor], flops: int) -> None:
    assert counting(product)[1] == flops
