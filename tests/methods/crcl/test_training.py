"""Training with CRCL: against a plain loop, its budget, and going on from a state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from epochs import MANY, train_epochs
from set_up import set_up_crcl

from ncbench import Task
from ncbench.budget import BudgetSpent

MakeTask = Callable[..., Task]


@pytest.mark.parametrize("budget", [8.0, 3.3])
def test_updates_are_those_of_a_plain_loop(budget: float, noisy: np.ndarray, make_task: MakeTask) -> None:
    """The same training by hand: a network and an AdamW per stage, losses by torch's cross-entropy and loops."""
    settings = {"change": 0.0, "drop": 0.0, "clip": 0.5, "weight_decay": 0.1, "warmup": 0.1, "alpha": 0.6}
    task = make_task(budget, claimed=noisy)
    torch.manual_seed(11)
    method = set_up_crcl(task, **settings)
    updates = len(list(train_epochs(method)))

    task = make_task(budget, claimed=noisy)
    torch.manual_seed(11)
    order, y, stage, made, epoch = task.rng("order of pairs"), np.ones(48), -1, 0, 0
    try:
        while True:
            shuffled = order.permutation(48)
            now = min(int(task.budget.progress / 0.2), 2)
            if now != stage:
                stage, net = now, task.new_backbone()
                adam = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=0.1)
            for start in range(0, 48, 8):
                batch = task.data.batch(shuffled[start : start + 8])
                warm = task.budget.progress - 0.2 * stage < 0.1 or epoch == 0
                S = net(*batch.inputs)
                rows, columns = (S / 0.05).softmax(1), (S / 0.05).softmax(0)
                labels = []
                for place, pair in enumerate(batch.pairs):
                    phat = (rows[place, place].item() + columns[place, place].item()) / 2
                    if stage == 0 and warm:
                        labels.append(1.0)
                        y[pair] = phat
                        continue
                    label = y[pair] if warm else 0.6 * y[pair] + 0.4 * phat
                    y[pair] = label if label >= 0.1 else 0.0
                    labels.append(y[pair])
                loss = torch.zeros(())
                for i, label in enumerate(labels):
                    for p in (rows[i], columns[:, i]):
                        loss = loss - label * p[i].log()
                        tangents = p.tan()
                        loss = loss + 5 * (tangents.sum() - tangents[i]) / tangents.sum() ** (1 - label)
                adam.zero_grad()
                (loss / 8).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                adam.param_groups[0]["lr"] = 1e-2 * 0.1 ** int((task.budget.progress - 0.2 * stage) / 0.4)
                adam.step()
                made += 1
                if min(int(task.budget.progress / 0.2), 2) != stage:
                    break
            epoch += 1
    except BudgetSpent:
        pass
    assert (made, stage) == (updates, 2)
    np.testing.assert_allclose(method.pair_scores(), y, atol=2e-3)
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-3, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("budget", [0.4, 1.7])
def test_the_budget_is_respected_and_used(budget: float, make_task: MakeTask) -> None:
    task = make_task(budget)
    method = set_up_crcl(task)
    updates = len(list(train_epochs(method)))
    assert updates >= 2
    assert task.budget.used <= task.budget.total
    assert task.budget.used > task.budget.total - task.budget.total / budget / 5  # less than one more update


def test_shorter_captions_cost_less(make_task: MakeTask) -> None:
    spent = []
    for change in (0.0, 1.0):
        task = make_task()
        list(train_epochs(set_up_crcl(task, change=change), range(1)))
        spent.append(task.budget.used)
    assert spent[1] < spent[0]


@pytest.mark.parametrize("backbone", ["vse", "saf"])
@pytest.mark.parametrize("epochs", [1, 4, 6, 8])
def test_training_goes_on_from_a_state_bit_by_bit(backbone: str, epochs: int, make_task: MakeTask) -> None:
    task = make_task(12.0, backbone=backbone)
    method = set_up_crcl(task, decay_every=0.1)
    list(train_epochs(method, range(epochs)))
    assert method.stage == {1: 0, 4: 1, 6: 1, 8: 2}[epochs]
    assert method._due_stage() == {1: 0, 4: 1, 6: 2, 8: 2}[epochs]
    state, used, random = method.state_dict(), task.budget.used, torch.get_rng_state()
    updates = len(list(train_epochs(method, range(epochs, MANY))))

    task = make_task(12.0, backbone=backbone, seed=0)
    other = set_up_crcl(task, decay_every=0.1)
    other.load_state_dict(state)
    task.budget.used = used
    torch.set_rng_state(random)
    assert len(list(train_epochs(other, range(epochs, MANY)))) == updates > 0
    assert other.stage == method.stage == 2
    assert other.optimiser.lr == method.optimiser.lr
    np.testing.assert_array_equal(other.pair_scores(), method.pair_scores())
    for (name, ours), theirs in zip(
        method.backbone.state_dict().items(), other.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_the_state_is_all_but_what_the_harness_gives(make_task: MakeTask) -> None:
    method = set_up_crcl(make_task())
    assert set(method.state_dict()) == {"order", "augmenting", "backbone", "y", "stage", "optimiser"}
    with pytest.raises(KeyError, match="the state of crcl differs in augmenting, backbone, optimiser, order, stage"):
        method.load_state_dict({"y": np.ones(48)})
