"""InfoNCE, RCE and the oracle: references that contestants are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up
from similarities import EXAMPLE
from torch import Tensor

from ncbench import Method, Task, UserError
from ncbench.budget import BudgetSpent
from ncbench.data.dataset import Dataset
from ncbench.noise.registry import draw_noise
from ncbench_methods.infonce import InfoNCE
from ncbench_methods.oracle import Oracle
from ncbench_methods.rce import RCE
from ncbench_methods.triplet import Triplet

MakeTask = Callable[..., Task]


def told(task: Task, clean: np.ndarray) -> Task:
    return replace(task, truth=clean)


@pytest.fixture
def true(tiny: Dataset) -> np.ndarray:
    return tiny.splits["train"].true


@pytest.fixture
def claimed(tiny: Dataset) -> np.ndarray:
    return draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed


# InfoNCE and RCE.


def naive_info_nce(S: list[list[float]], tau: float) -> float:
    """Cross-entropy of the matched pair among those of its row, and of its column, one query at a time."""
    size, total = len(S), 0.0
    for i in range(size):
        total -= log(exp(S[i][i] / tau) / sum(exp(S[i][j] / tau) for j in range(size)))
        total -= log(exp(S[i][i] / tau) / sum(exp(S[j][i] / tau) for j in range(size)))
    return total / size


def naive_rce(S: list[list[float]], tau: float) -> float:
    """Half of cross-entropy plus reverse cross-entropy, whose labels are 1e-7 for pairs that do not match."""
    size, reverse = len(S), 0.0
    for i in range(size):
        row, column = (sum(exp(s / tau) for s in scores) for scores in (S[i], [S[j][i] for j in range(size)]))
        for j in range(size):
            if j != i:
                reverse -= (exp(S[i][j] / tau) / row + exp(S[j][i] / tau) / column) * log(1e-7)
    return 0.5 * (naive_info_nce(S, tau) + reverse / size)


LOSSES = [(InfoNCE, naive_info_nce, 1.691375), (RCE, naive_rce, 7.011832)]


@pytest.mark.parametrize(("kind", "naive", "expected"), LOSSES)
def test_losses_of_a_worked_example(kind: type[Method], naive: Callable[..., float], expected: float) -> None:
    method: Any = kind(kind.Config())
    assert method.loss(EXAMPLE, None).item() == pytest.approx(expected, abs=2e-6)
    assert naive(EXAMPLE.tolist(), 0.05) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("tau", [0.05, 0.3])
@pytest.mark.parametrize(("kind", "naive", "_"), LOSSES)
def test_losses_against_naive_ones(kind: type[Method], naive: Callable[..., float], _: float, tau: float) -> None:
    S = torch.rand((6, 6), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    method: Any = kind(kind.Config(tau=tau))
    assert method.loss(S, None).item() == pytest.approx(naive(S.tolist(), tau), rel=1e-5)


def plain_loss(kind: type[Method], S: Tensor, tau: float) -> Tensor:
    rows, columns = (S / tau).softmax(1), (S / tau).softmax(0)
    entropy = -rows.diagonal().log().mean() - columns.diagonal().log().mean()
    if kind is InfoNCE:
        return entropy
    others = 1 - torch.eye(len(S))
    return 0.5 * (entropy - log(1e-7) * ((rows + columns) * others).sum() / len(S))


@pytest.mark.parametrize("kind", [InfoNCE, RCE])
def test_updates_are_those_of_a_plain_loop(kind: type[Method], make_task: MakeTask) -> None:
    """Every pair once, in the order of the stream, clipped Adam at a rate that falls."""
    method = set_up(kind, make_task(2.0), clip=0.5, decay_every=0.4, tau=0.1)
    for epoch in range(2):
        list(train_epoch(method, epoch))

    task = make_task(2.0)
    net = task.new_backbone()
    adam, rng = torch.optim.Adam(net.parameters(), 1e-2), task.rng("order of pairs")
    for _ in range(2):
        order = rng.permutation(48)
        for start in range(0, 48, 8):
            batch = task.data.batch(order[start : start + 8])
            adam.zero_grad()
            plain_loss(kind, net(*batch.inputs), 0.1).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.param_groups[0]["lr"] = 1e-2 * 0.1 ** int(task.budget.progress / 0.4)
            adam.step()
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("kind", [InfoNCE, RCE])
def test_training_lowers_the_loss(kind: type[Method], make_task: MakeTask) -> None:
    method = set_up(kind, make_task())
    epochs = [np.mean([scalars["loss"] for scalars in train_epoch(method, epoch)]) for epoch in range(8)]
    assert epochs[-1] < 0.8 * epochs[0]


@pytest.mark.parametrize("kind", [InfoNCE, RCE])
def test_mode_budget_and_short_batches(kind: type[Method], make_task: MakeTask) -> None:
    method = set_up(kind, make_task(budget=0.5, backbone="saf"))
    method.backbone.eval()
    updates = train_epoch(method, 0)
    next(updates)
    assert method.backbone.training
    with pytest.raises(BudgetSpent):
        list(updates)
    assert len(list(train_epoch(set_up(kind, make_task(), batch_size=46), 0))) == 2
    assert len(list(train_epoch(set_up(kind, make_task(), batch_size=47), 0))) == 1


def test_published_settings() -> None:
    for kind in (InfoNCE, RCE):
        config = kind.Config()
        assert (config.batch_size, config.lr, config.tau, config.clip) == (128, 2e-4, 0.05, 2.0)
        assert config.decay_every == 15 / 40
        assert kind.Config(**kind.presets["coco"]).decay_every == pytest.approx(10 / 30)
        assert kind.Config(**kind.presets["cc152k"]).decay_every == 20 / 50
        with pytest.raises(ValueError, match="tau must be above 0"):
            kind.Config(tau=0.0)


@pytest.mark.parametrize("kind", [InfoNCE, RCE, Oracle])
def test_presets_are_configs(kind: type[Method]) -> None:
    assert {"scenes", "scenes-large"} <= set(kind.presets)
    for preset in kind.presets.values():
        assert kind.Config(**preset) != kind.Config()


@pytest.mark.parametrize("kind", [InfoNCE, RCE, Oracle])
def test_no_beliefs(kind: type[Method], make_task: MakeTask) -> None:
    method = set_up(kind, told(make_task(), np.ones(48, bool)))
    list(train_epoch(method, 0))
    assert method.pair_scores() is None
    assert method.rematches() is None


# The oracle.


def test_only_the_oracle_needs_the_truth() -> None:
    assert Oracle.needs_truth
    assert not any(kind.needs_truth for kind in (InfoNCE, RCE, Triplet))


def test_the_oracle_takes_every_clean_pair_once_an_epoch_and_no_other(
    make_task: MakeTask, true: np.ndarray, claimed: np.ndarray
) -> None:
    method = set_up(Oracle, told(make_task(claimed=claimed), claimed == true))
    view, taken = method.task.data, []
    original = view.batch

    def spy(pairs: np.ndarray) -> Any:
        taken.append(pairs)
        return original(pairs)

    view.batch = spy
    orders = []
    for epoch in range(2):
        taken.clear()
        list(train_epoch(method, epoch))
        orders.append(np.concatenate(taken).tolist())
        assert sorted(orders[-1]) == np.flatnonzero(claimed == true).tolist()
        assert 20 < len(orders[-1]) < 40
    assert orders[0] != orders[1]


def weights_after(method: Any, epochs: int = 2) -> list[Tensor]:
    for epoch in range(epochs):
        list(train_epoch(method, epoch))
    return list(method.backbone.parameters())


def test_the_oracle_is_triplet_where_all_pairs_are_clean(make_task: MakeTask) -> None:
    """With a warm-up of mean negatives, hardest negatives, and a falling learning rate within its two epochs."""
    settings = {"warmup": 0.3, "decay_every": 0.4, "clip": 0.5, "margin": 0.3}
    ours = weights_after(set_up(Oracle, told(make_task(2.0), np.ones(48, bool)), **settings))
    theirs = weights_after(set_up(Triplet, make_task(2.0), **settings))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_claims_of_mismatched_pairs_do_not_reach_the_oracle(
    make_task: MakeTask, true: np.ndarray, claimed: np.ndarray
) -> None:
    clean = claimed == true
    other = np.where(clean, true, (true + 1) % 24)
    weights = [weights_after(set_up(Oracle, told(make_task(claimed=pairs), clean))) for pairs in (claimed, other)]
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))
    believing = [weights_after(set_up(Triplet, make_task(claimed=pairs))) for pairs in (claimed, other)]
    assert not all(torch.equal(one, two) for one, two in zip(*believing, strict=True))


def test_the_oracle_must_be_told(make_task: MakeTask) -> None:
    with pytest.raises(ValueError, match=r"task\.truth is None"):
        set_up(Oracle, make_task())


@pytest.mark.parametrize("n_clean", [0, 1, 2])
def test_the_oracle_needs_two_clean_pairs(n_clean: int, make_task: MakeTask) -> None:
    task = told(make_task(), np.arange(48) < n_clean)
    if n_clean == 2:
        assert len(list(train_epoch(set_up(Oracle, task), 0))) == 1
        return
    with pytest.raises(UserError, match=f"at least two clean pairs, found {n_clean}; lower --noise"):
        set_up(Oracle, task)
