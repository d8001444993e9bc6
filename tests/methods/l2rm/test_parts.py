"""The parts of L2RM that can be switched, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from set_up import set_up_l2rm
from torch import Tensor

from ncbench import Task, losses, transport
from ncbench_methods.l2rm import L2RM

MakeTask = Callable[..., Task]


def spied_update(task: Task, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    """Make one update, and tell what it was of: cost, forbidden entries, plan, similarities and both losses."""
    told: dict[str, Any] = {}
    solve = transport.partial_transport

    def spy(cost: Tensor, mass: float, reg: float, forbidden: Tensor | None, **rest: Any) -> Tensor:
        told.update(cost=cost, forbidden=forbidden, plan=solve(cost, mass, reg, forbidden, **rest))
        return told["plan"]

    method = set_up_l2rm(task, planted=1.0, lr_cost=1e-2, **settings)
    score = method._similarities
    method._similarities = lambda images, batch: told.setdefault(f"scores {len(told)}", score(images, batch))
    with monkeypatch.context() as patch:
        patch.setattr(transport, "partial_transport", spy)
        scalars = method._update(*(method.task.data.batch(np.arange(start, start + 16, 2)) for start in (0, 24)))
    scores = [value for name, value in told.items() if name.startswith("scores")][-1]
    return {**told, **scalars, "scores": scores.detach()}


PARTS: dict[str, dict[str, object]] = {
    "cost": {"cost": "complement"},
    "given": {"given": "allowed"},
    "mass": {"mass": 1.0},
    "solver": {"solver": "exact"},
    "loss": {"loss": "kl"},
}
MADE_OF: dict[str, set[str]] = {"cost": {"cost"}, "forbidden": {"given"}, "plan": {"cost", "given", "mass", "solver"}}


@pytest.mark.parametrize("part", PARTS)
def test_a_switch_changes_its_part_and_what_is_made_of_it(
    part: str, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = spied_update(make_task(), monkeypatch)
    other = spied_update(make_task(), monkeypatch, **PARTS[part])
    assert torch.equal(other["scores"], plain["scores"])
    assert other["loss_clean"] == plain["loss_clean"]
    assert other["loss_noisy"] != plain["loss_noisy"]
    for name, parts in MADE_OF.items():
        left, right = plain[name], other[name]
        same = torch.equal(left, right) if isinstance(right, Tensor) else left is right
        assert same == (part not in parts), name


@pytest.mark.parametrize("loss", ["symmetric_kl", "kl", "jensen_shannon", "arithmetic_geometric", "soft_info_nce"])
def test_rematched_pairs_train_by_the_loss_that_is_set(
    loss: str, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = spied_update(make_task(), monkeypatch, loss=loss, tau=0.1)
    expected = getattr(losses, loss)(found["scores"], found["plan"], 0.1)
    assert found["loss_noisy"] == pytest.approx(expected.item(), rel=1e-6)


def test_given_pairs_can_be_allowed(make_task: MakeTask) -> None:
    found = {}
    for given in ("forbidden", "allowed"):
        method = set_up_l2rm(make_task(claimed=np.arange(48) // 2), given=given, reg=0.01)
        batch = method.task.data.batch(np.arange(0, 16, 2))
        method._enqueue(batch)
        found[given] = method._plan(torch.eye(8), batch)  # nothing is as similar as what is given
    assert not found["forbidden"].diagonal().any()
    assert found["allowed"].diagonal().sum() > 0.099
    # What is believed to be as claimed is no rematch.
    method.p_clean = np.zeros(48)
    method._similarities = lambda images, batch: torch.eye(8)
    assert not method.rematches().weights.any()


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")  # a plan without choice is slow to the last digit
@pytest.mark.parametrize("solver", ["sinkhorn", "exact", "published"])
def test_given_pairs_that_leave_little_room(solver: str, make_task: MakeTask) -> None:
    """Six of eight captions claim one image, which has six places in the queue: two captions are left for these."""
    claimed = np.arange(48) % 24
    claimed[:6] = 0
    method = set_up_l2rm(make_task(claimed=claimed), mass=1.0, solver=solver)
    batch = method.task.data.batch(np.arange(8))
    method._enqueue(batch)
    plan = method._plan(method._similarities(method.queue, batch), batch)
    assert plan.isfinite().all()
    assert plan.sum().item() == pytest.approx(0.5, abs=0.02 if solver == "published" else 1e-4)
    assert method._update(method.task.data.batch(np.arange(24, 32)), batch)["loss_noisy"] > 0


def test_a_batch_without_any_room_trains_clean_pairs_alone(make_task: MakeTask) -> None:
    weights = []
    for with_noisy in (True, False):
        method = set_up_l2rm(make_task(claimed=np.zeros(48, np.int64)), cost="complement")
        clean, noisy = (method.task.data.batch(np.arange(start, start + 8)) for start in (0, 24))
        scalars = method._update(clean, noisy if with_noisy else None)
        assert scalars["loss_noisy"] == 0
        assert scalars["loss"] == scalars["loss_clean"] > 0
        weights.append(list(method.backbone.parameters()))
    assert all(torch.equal(left, right) for left, right in zip(*weights, strict=True))


@pytest.mark.parametrize("mass", [0.0, -0.1, 1.01])
def test_a_mass_out_of_range_is_refused(mass: float) -> None:
    with pytest.raises(ValueError, match="mass must be"):
        L2RM.Config(mass=mass)


def test_an_update_is_one_step_on_the_sum_of_both_losses(make_task: MakeTask) -> None:
    method = set_up_l2rm(make_task(), cost="complement")
    clean, noisy = (method.task.data.batch(np.arange(start, start + 8)) for start in (0, 24))
    net = set_up_l2rm(make_task(), cost="complement").backbone
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    loss_clean = losses.hinge_max(net(clean.images, clean.tokens, clean.lengths), 0.2)
    scores = net(noisy.images, noisy.tokens, noisy.lengths)  # a queue of one batch is that batch
    claimed = method.task.data.claimed[noisy.pairs]
    same = torch.from_numpy(claimed[:, None] == claimed)
    plan = transport.partial_transport(1 - scores.detach(), 0.1, 0.07, same)
    loss_noisy = losses.symmetric_kl(scores, plan, 0.05)
    (loss_clean + loss_noisy).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    adam.step()

    scalars = method._update(clean, noisy)
    assert scalars["loss_clean"] == pytest.approx(loss_clean.item(), rel=1e-5)
    assert scalars["loss_noisy"] == pytest.approx(loss_noisy.item(), rel=1e-5)
    assert scalars["loss"] == pytest.approx(scalars["loss_clean"] + scalars["loss_noisy"])
    for ours, theirs in zip(method.backbone.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_published_defaults() -> None:
    config = L2RM.Config()
    assert (config.batch_size, config.queue, config.lr, config.lr_cost) == (128, 128, 2e-4, 2e-6)
    assert (config.reg, config.mass, config.tau, config.margin, config.clip) == (0.01, 0.1, 0.05, 0.2, 2.0)
    assert (config.warmup, config.decay_every) == (5 / 40, 15 / 40)
    coco, web = L2RM.presets["coco"], L2RM.presets["cc152k"]
    assert (coco["reg"], coco["warmup"], coco["decay_every"]) == (0.07, pytest.approx(10 / 30), pytest.approx(10 / 30))
    assert (web["reg"], web["warmup"], web["decay_every"]) == (0.07, 10 / 50, 20 / 50)
