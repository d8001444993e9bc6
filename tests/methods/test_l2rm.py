"""L2RM: cost network, queue, forbidden pairs, split, rematches, and sets too small for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from torch import Tensor

from ncbench import Batch, Optimiser, Task, losses, mixture, transport
from ncbench.budget import WorkMeter
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.method.rematching import CostNetwork
from ncbench.noise.registry import draw_noise
from ncbench_methods.l2rm import L2RM

MakeTask = Callable[..., Task]


def make(task: Task, **settings: Any) -> L2RM:
    method = L2RM(L2RM.Config(**{"batch_size": 8, "queue": 8, "reg": 0.07, "warmup": 0.0, "lr": 1e-2, **settings}))
    method.setup(task)
    return method


@pytest.fixture
def noisy(tiny: Dataset) -> np.ndarray:
    return draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The cost network.


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_cost_starts_as_the_complement(rows: int) -> None:
    scores = 3 * random(rows, 5) - 1  # some above 1
    torch.testing.assert_close(CostNetwork(5).double()(scores), (1 - scores).clamp(min=0))


def test_cost_is_a_linear_map_of_rows() -> None:
    network, scores = CostNetwork(3).double(), random(4, 3)
    with torch.no_grad():
        network.linear.weight.copy_(random(3, 3, seed=1) - 0.5)
        network.linear.bias.copy_(random(3, seed=2) - 0.5)
    W, b = network.linear.weight, network.linear.bias
    for r in range(4):
        for c in range(3):
            expected = max(0.0, sum(W[c, k] * scores[r, k] for k in range(3)).item() + b[c].item())
            assert network(scores)[r, c].item() == pytest.approx(expected, abs=1e-12)


def test_worked_example_of_a_cost_update() -> None:
    network, scores = CostNetwork(4).double(), random(3, 4)
    scores[2, 0], scores[0, 1] = 0.8, 0.65
    loss = network(scores)[[2, 0], [0, 1]].sum()
    assert loss.item() == pytest.approx(0.55)
    loss.backward()
    W, b = network.linear.weight, network.linear.bias
    torch.testing.assert_close(W.grad, torch.stack([scores[2], scores[0], 0 * scores[0], 0 * scores[0]]))
    torch.testing.assert_close(b.grad, torch.tensor([1.0, 1, 0, 0]).double())

    network = CostNetwork(4).double()
    optimiser = Optimiser([network], WorkMeter(1), lr=2e-6)
    optimiser.step(network(scores)[[2, 0], [0, 1]].sum())
    moved = torch.tensor([1.0, 1, 0, 0]).double() * -2e-6
    # Adam's first step is lr * g / (|g| + 1e-8).
    change = network.linear.weight.detach() + torch.eye(4)
    torch.testing.assert_close(change, moved[:, None].expand(4, 4), rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(network.linear.bias.detach() - 1, moved, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(("planted", "largest"), [(0.5, 4), (0.1, 1), (0.25, 2)])
def test_clean_images_are_planted_in_the_queue(planted: float, largest: int, make_task: MakeTask) -> None:
    method = make(make_task(), queue=12, planted=planted)
    seen: list[Tensor] = []
    score = method._similarities

    def spy(images: Tensor, batch: Batch) -> Tensor:
        assert not method.backbone.training
        assert not torch.is_grad_enabled()
        seen.append(images)
        return score(images, batch)

    method._similarities = spy
    clean, before = method.task.data.batch(np.arange(0, 16, 2)), method.queue.clone()
    weights = [weight.clone() for weight in method.backbone.parameters()]
    counts = set()
    for _ in range(20):
        rows = method.cost_network.linear.weight.detach().clone()
        method._learn_cost(clean)
        assert torch.equal(method.queue, before)  # a copy was planted
        planted_at = (seen[-1] != before).any(2).any(1).nonzero().flatten()
        for place in planted_at:
            assert any(torch.equal(seen[-1][place], image) for image in clean.images)
        counts.add(len(planted_at))
        assert (method.cost_network.linear.weight != rows).any()
    assert max(counts) <= largest
    assert len(counts) > 1 or largest == 1
    assert all(torch.equal(old, new) for old, new in zip(weights, method.backbone.parameters(), strict=True))


def test_learning_the_cost_lowers_it_at_true_matches(make_task: MakeTask) -> None:
    method = make(make_task(), planted=1.0, lr_cost=1e-3)
    batch = method.task.data.batch(np.arange(0, 16, 2))
    with torch.no_grad():
        scores = method._similarities(batch.images, batch)
    before = method.cost_network(scores).diagonal().sum()
    for _ in range(5):
        method._learn_cost(batch)
    assert method.cost_network(scores).diagonal().sum() < before


# The queue and the plan.


@pytest.mark.parametrize("queue", [8, 12, 20])
def test_queue_is_first_in_first_out(queue: int, make_task: MakeTask) -> None:
    method = make(make_task(), queue=queue)
    assert (len(method.queue), len(method.queue_numbers)) == (queue, queue)
    expected = method.queue_numbers.tolist()
    for start in (0, 8, 24):
        batch = method.task.data.batch(np.arange(start, start + 8))
        method._enqueue(batch)
        expected = [*method.task.data.claimed[batch.pairs].tolist(), *expected][:queue]
        assert method.queue_numbers.tolist() == expected
        assert torch.equal(method.queue, method.task.data.images(np.array(expected)))


@pytest.mark.parametrize("solver", ["sinkhorn", "exact"])
def test_every_given_pair_of_the_batch_is_forbidden(
    solver: str, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = np.arange(48) % 6  # eight captions claim each image: many given pairs off the diagonal
    method = make(make_task(claimed=claimed), queue=16, solver=solver)
    asked: list[Tensor] = []
    original = transport.partial_transport

    def spy(cost: Tensor, mass: float, reg: float, forbidden: Tensor, **rest: Any) -> Tensor:
        assert (mass, reg, rest) == (0.1, 0.07, {"solver": solver, "shrink": True})
        asked.append(forbidden)
        return original(cost, mass, reg, forbidden, **rest)

    monkeypatch.setattr(transport, "partial_transport", spy)
    batch = method.task.data.batch(np.array([0, 6, 1, 2, 12, 3, 9, 5]))
    method._enqueue(batch)
    plan = method._plan(method._similarities(method.queue, batch), batch)
    (forbidden,) = asked
    assert forbidden.shape == plan.shape == (16, 8)
    for q in range(16):
        for c in range(8):
            assert forbidden[q, c] == (method.queue_numbers[q] == claimed[batch.pairs[c]])
    assert forbidden[:8].diagonal().all()
    assert forbidden.sum() > 8 + 6
    assert not plan[forbidden].any()
    assert plan.sum().item() == pytest.approx(0.1, rel=1e-3)
    assert not plan.requires_grad


def test_complement_is_the_learned_cost_at_first(make_task: MakeTask) -> None:
    plans = []
    for cost in ("learned", "complement"):
        method = make(make_task(), cost=cost)
        batch = method.task.data.batch(np.arange(0, 16, 2))
        method._enqueue(batch)
        with torch.no_grad():
            plans.append(method._plan(method._similarities(method.queue, batch), batch))
    torch.testing.assert_close(*plans)


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_complement_and_learned_cost_train_nearly_alike(backbone: str, make_task: MakeTask) -> None:
    scores = []
    for cost in ("learned", "complement"):
        method = make(make_task(backbone=backbone), cost=cost, queue=12, warmup=1.0)
        view = method.task.data
        for start in range(0, 40, 8):
            method._update(view.batch(np.arange(start, start + 8)), view.batch(np.arange(start, start + 8)[::-1] + 8))
        with torch.no_grad():
            method.backbone.eval()
            batch = view.batch(np.arange(48))
            scores.append(method._similarities(batch.images, batch))
    fresh = make(make_task(backbone=backbone), queue=12).backbone.eval()
    with torch.no_grad():
        moved = (fresh(*batch.inputs) - scores[0]).abs().max()
    assert moved > 0.05
    assert (scores[0] - scores[1]).abs().max() < moved / 30


# Three updates, written as plain loops.


def plain_hinge(S: Tensor, margin: float) -> Tensor:
    """Return the sum over pairs of what the hardest image and the hardest caption cost."""
    total = torch.zeros((), dtype=S.dtype)
    for i in range(len(S)):
        for line in (S[i], S[:, i]):
            others = torch.cat([line[:i], line[i + 1 :]])
            total = total + (margin + others - S[i, i]).max().clamp(min=0)
    return total


def plain_plan(cost: np.ndarray, forbidden: np.ndarray, mass: float, reg: float) -> np.ndarray:
    """Return the entropic partial plan: balanced transport with a dummy row and column, by Sinkhorn's iteration."""
    n, m = cost.shape
    K = np.ones((n + 1, m + 1))
    K[:n, :m] = np.where(forbidden, 0.0, np.exp(-cost / reg))
    K[n, m] = 0.0
    a, b = np.append(np.full(n, 1 / n), 1 - mass), np.append(np.full(m, 1 / m), 1 - mass)
    v = np.ones(m + 1)
    for _ in range(5_000):
        u = a / (K @ v)
        v = b / (K.T @ u)
    plan: np.ndarray = (u[:, None] * K * v)[:n, :m]
    return plan


def plain_symmetric_kl(S: Tensor, plan: np.ndarray, tau: float) -> Tensor:
    total = torch.zeros((), dtype=S.dtype)
    for scores, mass in ((S, plan), (S.T, plan.T)):
        for row in range(len(scores)):
            p = (scores[row] / tau).softmax(0)
            y = torch.from_numpy(np.maximum(mass[row], 1e-10))
            y = y / y.sum()
            total = total + 0.5 * ((y - p) * (y.log() - p.log())).sum() / len(scores)
    return total


def test_three_updates_are_those_of_a_plain_loop(make_task: MakeTask) -> None:
    same: dict[str, Any] = {"reg": 0.05, "margin": 0.2, "tau": 0.1, "mass": 0.3, "planted": 0.5}
    method = make(make_task(4.0), batch_size=16, queue=24, lr_cost=1e-2, clip=0.5, decay_every=10.0, **same)
    view = method.task.data
    rng = np.random.default_rng(4)
    steps = [tuple(rng.permutation(48)[:32].reshape(2, 16)) for _ in range(3)]
    for clean, noisy in steps:
        method._update(view.batch(clean), view.batch(noisy))

    task = make_task(4.0)
    net, view, planting = task.new_backbone(), task.data, task.rng("planted images")
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    W, b = (-torch.eye(16).double()).requires_grad_(), torch.ones(16).double().requires_grad_()
    cost_adam = torch.optim.Adam([W, b], 1e-2)
    numbers = task.rng("first queue").choice(view.n_images, 24)
    images = view.images(numbers)
    for clean, noisy in steps:
        batch, other = view.batch(clean), view.batch(noisy)
        count = int(planting.integers(1, 8, endpoint=True))
        captions, places = planting.choice(16, count, replace=False), planting.choice(24, count, replace=False)
        planted = images.clone()
        planted[places] = batch.images[captions]
        with torch.no_grad():
            S = net.eval()(planted, batch.tokens, batch.lengths).double()
        cost_adam.zero_grad()
        sum((W[c] @ S[r] + b[c]).clamp(min=0) for r, c in zip(places, captions, strict=True)).backward()
        cost_adam.step()
        images = torch.cat([other.images, images])[:24]
        numbers = np.concatenate([view.claimed[noisy], numbers])[:24]
        S = net.train()(images, other.tokens, other.lengths).double()
        weights, bias, found = W.detach().numpy(), b.detach().numpy(), S.detach().numpy()
        cost = np.array([[max(0.0, weights[c] @ found[r] + bias[c]) for c in range(16)] for r in range(24)])
        forbidden = np.array([[numbers[r] == view.claimed[noisy[c]] for c in range(16)] for r in range(24)])
        loss = plain_hinge(net(*batch.inputs).double(), 0.2)
        loss = loss + plain_symmetric_kl(S, plain_plan(cost, forbidden, 0.3, 0.05), 0.1)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        adam.step()
    torch.testing.assert_close(method.cost_network.linear.weight.double(), W, rtol=1e-3, atol=1e-5)
    for (key, ours), theirs in zip(method.backbone.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
        assert not torch.equal(ours, make_task(4.0).new_backbone().state_dict()[key])


# The parts that can be switched.


def spied_update(task: Task, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    """Make one update, and tell what it was of: cost, forbidden entries, plan, similarities and both losses."""
    told: dict[str, Any] = {}
    solve = transport.partial_transport

    def spy(cost: Tensor, mass: float, reg: float, forbidden: Tensor | None, **rest: Any) -> Tensor:
        told.update(cost=cost, forbidden=forbidden, plan=solve(cost, mass, reg, forbidden, **rest))
        return told["plan"]

    method = make(task, planted=1.0, lr_cost=1e-2, **settings)
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
        method = make(make_task(claimed=np.arange(48) // 2), given=given, reg=0.01)
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
    method = make(make_task(claimed=claimed), mass=1.0, solver=solver)
    batch = method.task.data.batch(np.arange(8))
    method._enqueue(batch)
    plan = method._plan(method._similarities(method.queue, batch), batch)
    assert plan.isfinite().all()
    assert plan.sum().item() == pytest.approx(0.5, abs=0.02 if solver == "published" else 1e-4)
    assert method._update(method.task.data.batch(np.arange(24, 32)), batch)["loss_noisy"] > 0


def test_a_batch_without_any_room_trains_clean_pairs_alone(make_task: MakeTask) -> None:
    weights = []
    for with_noisy in (True, False):
        method = make(make_task(claimed=np.zeros(48, np.int64)), cost="complement")
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
    method = make(make_task(), cost="complement")
    clean, noisy = (method.task.data.batch(np.arange(start, start + 8)) for start in (0, 24))
    net = make(make_task(), cost="complement").backbone
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


# The phases.


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
    method = make(task, warmup=0.25)
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
    method = make(make_task(), cost=cost)
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
    method = make(make_task())
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
    method = make(make_task())
    list(train_epoch(method, 0))
    assert torch.equal(method.cost_network.linear.weight, -torch.eye(8))


def test_without_its_noisy_branch_only_clean_pairs_train(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "clean_probability", lambda _: np.repeat([0.9, 0.1], 24))
    method = make(make_task(), noisy="left_out")
    found = list(train_epoch(method, 0))
    assert [entry["loss_noisy"] for entry in found] == [0.0] * 3  # the 24 clean pairs, 8 at a time
    assert torch.equal(method.cost_network.linear.weight, -torch.eye(8))
    assert method.pair_scores() is not None
    assert method.rematches() is None
    assert method.transport_plan() is None


def test_without_its_split_all_pairs_are_both(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "clean_probability", None)  # never called
    method = make(make_task(), split="none", warmup=0.0)
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


# What it believes.


def test_no_beliefs_before_the_first_split(make_task: MakeTask) -> None:
    method = make(make_task(), warmup=0.9)
    list(train_epoch(method, 0))
    assert method.pair_scores() is None
    assert method.rematches() is None
    assert method.transport_plan() is None


def oracle(images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Scores of one who knows: how many of the named shapes an image shows."""
    seen = images.round().sum(1)  # (I, shapes)
    said = torch.stack([(tokens == 4 + shape).sum(1) for shape in range(6)], 1).float()
    return 0.1 + 0.8 * torch.minimum(seen[:, None], said).sum(-1) / said.sum(-1)


def test_an_oracle_tells_clean_pairs_from_noisy_ones(tiny: Dataset, noisy: np.ndarray, make_task: MakeTask) -> None:
    method = make(make_task(claimed=noisy), batch_size=48, queue=48)  # all pairs in one batch: no draw decides
    method.backbone.forward = oracle
    method.begin_epoch(0)
    scores = method.pair_scores()
    assert scores.shape == (48,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    clean = noisy == tiny.splits["train"].true
    found = detect(scores, clean)
    assert (found.auc, found.precision) == (1, 1)
    assert found.recall > 0.5


def test_rematches(noisy: np.ndarray, make_task: MakeTask) -> None:
    method = make(make_task(claimed=noisy), queue=20)
    for epoch in range(3):
        list(train_epoch(method, epoch))
    believed_noisy = np.flatnonzero(method.pair_scores() <= 0.5)
    before = method.queue_numbers.tolist()
    rematches = method.rematches()
    assert method.queue_numbers.tolist() == before
    assert torch.equal(method.queue, method.task.data.images(np.array(before)))
    assert len(rematches.captions) == len(believed_noisy) // 8 * 8 > 0
    assert len(rematches.captions) == len(rematches.images) == len(rematches.weights)
    assert len(set(rematches.captions)) == len(rematches.captions)
    assert set(rematches.captions) <= set(believed_noisy)
    assert (rematches.images != noisy[rematches.captions])[rematches.weights > 0].all()
    assert ((rematches.images >= 0) & (rematches.images < 24)).all()
    assert ((rematches.weights >= 0) & (rematches.weights <= 1)).all()
    assert (rematches.weights > 0).any()


def test_the_plan_to_look_at_is_one_of_training(noisy: np.ndarray, make_task: MakeTask) -> None:
    method = make(make_task(claimed=noisy), queue=20)
    for epoch in range(3):
        list(train_epoch(method, epoch))
    before = method.queue_numbers.tolist()
    plan, again = method.transport_plan(), method.transport_plan()
    assert plan is not None
    assert method.queue_numbers.tolist() == before
    np.testing.assert_array_equal(plan.mass, again.mass)
    assert plan.mass.shape == (20, 8) == (len(plan.images), len(plan.captions))
    assert (method.pair_scores()[plan.captions] <= 0.5).all()
    assert plan.images.tolist() == [*noisy[plan.captions], *before[:12]]
    given = plan.images[:, None] == noisy[plan.captions]
    assert (plan.mass[given] == 0).all()
    assert plan.mass.sum() == pytest.approx(method.config.mass, rel=1e-3)


def test_rematches_are_what_training_believes(make_task: MakeTask) -> None:
    """The weight is the largest entry of the caption's label; a label below the floor is uniform, and no belief."""
    method = make(make_task(), reg=0.01)
    method.p_clean = np.repeat([0.0, 1.0], [8, 40])
    scores = torch.full((8, 8), 0.5)
    scores[:, 7] = -9.0  # a caption that nothing is like
    scores[:, :2] += torch.linspace(0, 0.02, 8)[:, None]
    method._similarities = lambda images, batch: scores
    rematches = method.rematches()
    assert (rematches.weights > 0).tolist() == [True] * 7 + [False]
    batch = method.task.data.batch(rematches.captions)
    method._enqueue(batch)
    plan = method._plan(scores, batch)[:, :7].double().numpy()
    np.testing.assert_allclose(rematches.weights[:7], (plan / plan.sum(0)).max(0), rtol=1e-6)
    assert (rematches.images[:7] == method.queue_numbers[plan.argmax(0)]).all()


def test_rematches_of_an_oracle_are_better_than_the_claims(
    tiny: Dataset, noisy: np.ndarray, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = noisy == tiny.splits["train"].true
    monkeypatch.setattr(mixture, "clean_probability", lambda _: clean.astype(float))
    method = make(make_task(claimed=noisy), queue=40, mass=0.5)
    method.backbone.forward = oracle
    monkeypatch.setattr(method, "_update", lambda clean, noisy: {"loss": 0.0})
    list(train_epoch(method, 0))
    found = method.rematches()
    closeness = tiny.semantics.closeness
    ours = closeness("train", found.captions, found.images)
    theirs = closeness("train", found.captions, noisy[found.captions])
    assert ours.mean() > theirs.mean() + 0.1


def test_published_defaults() -> None:
    config = L2RM.Config()
    assert (config.batch_size, config.queue, config.lr, config.lr_cost) == (128, 128, 2e-4, 2e-6)
    assert (config.reg, config.mass, config.tau, config.margin, config.clip) == (0.01, 0.1, 0.05, 0.2, 2.0)
    assert (config.warmup, config.decay_every) == (5 / 40, 15 / 40)
    coco, web = L2RM.presets["coco"], L2RM.presets["cc152k"]
    assert (coco["reg"], coco["warmup"], coco["decay_every"]) == (0.07, pytest.approx(10 / 30), pytest.approx(10 / 30))
    assert (web["reg"], web["warmup"], web["decay_every"]) == (0.07, 10 / 50, 20 / 50)
