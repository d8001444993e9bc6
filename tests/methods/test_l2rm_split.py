"""The experiment on L2RM's split: as L2RM by default, and what its two settings change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from epochs import train_epoch
from hypothesis import given
from hypothesis import strategies as st
from l2rm_split import L2RMSplit, recentred

from ncbench import Batch, Task, losses
from ncbench.method.registry import load_method
from ncbench_methods.l2rm import L2RM

MakeTask = Callable[..., Task]
SMALL: dict[str, Any] = {"batch_size": 8, "queue": 8, "reg": 0.07, "warmup": 0.0, "lr": 1e-2}


def two_epochs(method: Any, task: Task) -> list[float]:
    method.setup(task)
    return [scalars["loss"] for epoch in range(2) for scalars in train_epoch(method, epoch)]


def test_it_is_l2rm_by_default(make_task: MakeTask, noisy: np.ndarray) -> None:
    expected = two_epochs(L2RM(L2RM.Config(**SMALL)), make_task(claimed=noisy))
    assert two_epochs(L2RMSplit(L2RMSplit.Config(**SMALL)), make_task(claimed=noisy)) == expected
    assert L2RMSplit.presets == L2RM.presets
    assert load_method("benchmarks/l2rm_split.py").name == "l2rm-split"


def test_the_clean_pairs_are_those_above_the_threshold(make_task: MakeTask, noisy: np.ndarray) -> None:
    kept: list[np.ndarray] = []

    class Spy(L2RMSplit):
        def train_epoch(self, epoch: int) -> Any:
            assert self.p_clean is not None
            kept.append(np.flatnonzero(self.p_clean > 0.5))
            return super().train_epoch(epoch)

    for threshold in (0.5, 0.9):
        two_epochs(Spy(Spy.Config(**SMALL, threshold=threshold)), make_task(claimed=noisy))
    # The first split of both is of the same network.
    method = L2RM(L2RM.Config(**SMALL))
    method.setup(make_task(claimed=noisy))
    method.begin_epoch(0)
    assert method.p_clean is not None
    assert kept[0].tolist() == np.flatnonzero(method.p_clean > 0.5).tolist()
    assert kept[2].tolist() == np.flatnonzero(method.p_clean > 0.9).tolist()
    assert len(kept[2]) < len(kept[0])


def test_a_robust_loss_of_the_clean_pairs(make_task: MakeTask) -> None:
    method = L2RMSplit(L2RMSplit.Config(**SMALL, clean_loss="rce"))
    task = make_task()
    method.setup(task)
    batch: Batch = next(iter(task.data.batches(8, np.random.default_rng(0))))
    method.backbone.eval()
    similarities = method.backbone(batch.images, batch.tokens, batch.lengths)
    torch.testing.assert_close(method._clean_loss(batch), losses.rce(similarities, 0.05))


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.01, 0.99))
def test_recentred_probabilities(p_clean: list[float], threshold: float) -> None:
    before = np.array(p_clean)
    after = recentred(before, threshold)
    assert ((after >= 0) & (after <= 1)).all()
    assert (np.diff(after[np.argsort(before)]) >= 0).all()
    clear = np.abs(before - threshold) > 1e-9
    assert ((after > 0.5) == (before > threshold))[clear].all()
