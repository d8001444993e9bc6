"""The phases of L2RM: warm-up, clean and noisy batches, and sets too small for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up_l2rm
from torch import Tensor

from ncbench import Batch, Task, losses, mixture

MakeTask = Callable[..., Task]


def test_warm_up_on_all_pairs_then_clean_and_noisy_ones(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(budget=10.0)
    called: list[tuple[str, float]] = []
    for name in ("rce", "hinge_max", "symmetric_kl"):
        original = getattr(losses, name)

        def spy(*arguments: Any, name: str = name, original: Callable[..., Tensor] = original) -> Tensor:
            called.append((name, task.budget.progress))
            return original(*arguments)

        monkeypatch.setattr(losses, name, spy)
    half_clean = np.repeat([0.9, 0.1], 24)
    monkeypatch.setattr(mixture, "clean_probability", lambda _: half_clean)
    method = set_up_l2rm(task, warmup=0.25)
    for epoch in range(4):
        list(train_epoch(method, epoch))
    names = [name for name, _ in called]
    n_warm = names.index("hinge_max")
    assert set(names[:n_warm]) == {"rce"}
    assert names[n_warm:] == ["hinge_max", "symmetric_kl"] * 3  # an epoch of the 24 clean pairs, 8 at a time
    assert n_warm in (14, 15, 16)  # a quarter of ten epochs of six batches, stopped within the third epoch
    assert all(share < 0.25 + 1 / 60 + 1e-9 for _, share in called[:n_warm])
    assert all(share >= 0.25 for _, share in called[n_warm:])


@pytest.mark.parametrize(("cost", "expected"), [("learned", 4), ("complement", 0)])
def test_the_cost_network_is_paid_for(cost: str, expected: int, make_task: MakeTask) -> None:
    """A forward and backward pass where it learns, a forward pass where it is used: products of (Q, B) and (B, B)."""
    method = set_up_l2rm(make_task(), cost=cost)
    method._similarities = lambda images, batch: torch.rand(len(images), len(batch))
    clean, noisy = (method.task.data.batch(np.arange(first, first + 8)) for first in (0, 8))
    before = method.task.budget.used
    if cost == "learned":
        method._learn_cost(clean)
    method._plan(torch.rand(len(method.queue), 8), noisy)
    assert method.task.budget.used - before == expected * 2 * len(method.queue) * 8 * 8


@pytest.mark.parametrize(
    ("n_clean", "updates", "warm_ups"),
    [
        (48, [False] * 6, 0),  # nothing noisy
        (41, [False] * 5, 0),  # seven noisy pairs fill no batch
        (40, [True] * 5, 0),  # eight do, again and again
        (9, [True], 0),
        (7, [], 6),  # seven clean pairs fill no batch: an epoch of warm-up
        (0, [], 6),
    ],
)
def test_sets_smaller_than_a_batch(
    n_clean: int, updates: list[bool], warm_ups: int, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    p_clean = (np.arange(48) < n_clean).astype(float)
    monkeypatch.setattr(mixture, "clean_probability", lambda _: p_clean)
    method = set_up_l2rm(make_task())
    for epoch in range(2):
        before = method.task.budget.used
        scalars = list(train_epoch(method, epoch))
        assert method.task.budget.used > before  # or a run would never end
        assert [entry["loss_noisy"] > 0 for entry in scalars if "loss_noisy" in entry] == updates
        assert sum("loss_noisy" not in entry for entry in scalars) == warm_ups
    assert method.pair_scores() is p_clean
    rematches = method.rematches()
    assert (rematches is None) == (48 - n_clean < 8)


def test_the_cost_is_learned_from_clean_batches_beside_noisy_ones_only(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture, "clean_probability", lambda _: np.ones(48))
    method = set_up_l2rm(make_task())
    list(train_epoch(method, 0))
    assert torch.equal(method.cost_network.linear.weight, -torch.eye(8))


def test_without_its_noisy_branch_only_clean_pairs_train(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "clean_probability", lambda _: np.repeat([0.9, 0.1], 24))
    method = set_up_l2rm(make_task(), noisy="left_out")
    found = list(train_epoch(method, 0))
    assert [entry["loss_noisy"] for entry in found] == [0.0] * 3  # the 24 clean pairs, 8 at a time
    assert torch.equal(method.cost_network.linear.weight, -torch.eye(8))
    assert method.pair_scores() is not None
    assert method.rematches() is None
    assert method.transport_plan() is None


def test_without_its_split_all_pairs_are_both(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "clean_probability", None)  # never called
    method = set_up_l2rm(make_task(), split="none", warmup=0.0)
    seen: dict[str, list[int]] = {"clean": [], "noisy": []}
    update = method._update

    def spy(clean: Batch, noisy: Batch | None) -> Mapping[str, float]:
        assert noisy is not None
        seen["clean"] += clean.pairs.tolist()
        seen["noisy"] += noisy.pairs.tolist()
        return update(clean, noisy)

    monkeypatch.setattr(method, "_update", spy)
    found = list(train_epoch(method, 0))
    assert len(found) == 6
    assert sorted(seen["clean"]) == sorted(seen["noisy"]) == list(range(48))
    assert method.pair_scores() is None  # it believes nothing about pairs
    rematches = method.rematches()
    assert rematches is not None
    assert sorted(rematches.captions) == list(range(48))
