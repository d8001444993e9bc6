"""CRCL: loss, correspondences over stages, new weights for every stage, augmentation, and going on from a state."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from torch import Tensor

from ncbench import Batch, Settings, Task, UserError
from ncbench.backbones.base import Backbone
from ncbench.budget import BudgetSpent
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.method.losses import log_matching
from ncbench.method.registry import make_config
from ncbench.noise.registry import draw_noise
from ncbench_methods import crcl
from ncbench_methods.crcl import CRCL

MakeTask = Callable[..., Task]

EXAMPLE = torch.tensor([[0.70, 0.55, 0.20], [0.30, 0.60, 0.65], [0.10, 0.45, 0.50]]).double()
TAU = 0.05


def make(task: Task, **settings: Any) -> CRCL:
    """Return a method whose stages take 0.2, 0.2 and 0.6 of the budget."""
    calm = {"batch_size": 8, "lr": 1e-2, "short_stages": 2, "short": 0.2, "warmup": 0.05, "decay_every": 0.4}
    method = CRCL(CRCL.Config(**{**calm, **settings}))
    method.setup(task)
    return method


def train(method: CRCL, first: int = 0, epochs: int = 1000) -> int:
    """Train until the budget is spent, or for some epochs; returns the number of updates."""
    updates = 0
    try:
        for epoch in range(first, first + epochs):
            for _ in train_epoch(method, epoch):
                updates += 1
    except BudgetSpent:
        pass
    return updates


@pytest.fixture
def noisy(tiny: Dataset) -> np.ndarray:
    return draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed


# The loss.


def plain_matching(S: Any, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Return p of captions per image and of images per caption, both (pair, other)."""
    e = np.exp(np.asarray(S, dtype=np.float64) / tau)
    return e / e.sum(1, keepdims=True), (e / e.sum(0, keepdims=True)).T


def plain_loss(S: Any, y: Any, tau: float, weight: float) -> float:
    total, n = 0.0, len(y)
    for p in plain_matching(S, tau):
        for i in range(n):
            others = sum(math.tan(p[i, j]) for j in range(n) if j != i)
            total += -y[i] * math.log(p[i, i])
            total += weight * others / (others + math.tan(p[i, i])) ** (1 - y[i])
    return total / n


@pytest.mark.parametrize(
    ("y", "complementary", "active", "weighted", "loss"),
    [
        ((1, 1, 1), (0.047844, 1.197229, 1.681595), 1.691375, 4.877781, 6.569156),
        ((1, 0.897415, 0.317830), (0.047844, 1.178410, 1.336829), 0.869977, 4.271806, 5.141783),
        ((1, 0.5, 0), (0.047844, 1.108262, 1.202604), 0.293481, 3.931184, 4.224665),
    ],
)
def test_a_worked_example(
    y: tuple[float, ...], complementary: tuple[float, ...], active: float, weighted: float, loss: float
) -> None:
    log_p, labels = log_matching(EXAMPLE, TAU), torch.tensor(y).double()
    matching = log_p.exp().diagonal(dim1=1, dim2=2).mean(0)
    np.testing.assert_allclose(matching, [0.976096, 0.487073, 0.389150], atol=1e-6)
    positive = -log_p.diagonal(dim1=1, dim2=2).sum(0)
    np.testing.assert_allclose(positive, [0.048972, 1.662940, 3.362212], atol=1e-6)
    found = [crcl.active_complementary_loss(log_p, labels, weight).item() for weight in (0.0, 5.0)]
    assert found == pytest.approx([active, loss], abs=2e-6)
    assert found[1] - found[0] == pytest.approx(weighted, abs=2e-6)
    assert sum(complementary) / 3 * 5 == pytest.approx(weighted, abs=5e-6)


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_that_of_plain_loops(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    S, y = (torch.rand(shape, generator=draw, dtype=torch.float64) for shape in ((7, 7), (7,)))
    y[0], y[1] = 0.0, 1.0
    log_p = log_matching(2 * S - 1, 0.3)
    for found, expected in zip(log_p, plain_matching(2 * S - 1, 0.3), strict=True):
        np.testing.assert_allclose(found.exp(), expected, rtol=1e-12)
    loss = crcl.active_complementary_loss(log_p, y, 2.5)
    assert loss.item() == pytest.approx(plain_loss(2 * S - 1, y.tolist(), 0.3, 2.5), rel=1e-12)


def test_gradients_are_right_and_finite() -> None:
    y = torch.tensor([0.0, 0.3, 1.0]).double()
    assert torch.autograd.gradcheck(
        lambda S: crcl.active_complementary_loss(log_matching(S, 0.2), y, 5.0), EXAMPLE.clone().requires_grad_()
    )
    S = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [1, 1, -1]], requires_grad=True)
    loss = crcl.active_complementary_loss(log_matching(S, 0.01), y.float(), 5.0)
    loss.backward()
    assert loss.isfinite()
    assert S.grad is not None
    assert S.grad.isfinite().all()


# Correspondences.


def test_decay_of_a_pair_that_never_matches(make_task: MakeTask) -> None:
    method = make(make_task())
    method.stage = 1
    pair = np.array([3])
    found = [method._refine(pair, np.array([0.2]), warming_up=False)[0] for _ in range(8)]
    expected = [0.84, 0.712, 0.6096, 0.52768, 0.462144, 0.409715, 0.367772, 0.334218]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scores = method.pair_scores()
    assert scores[3] == found[-1]
    assert (np.delete(scores, 3) == 1).all()
    method._refine(pair, np.array([0.2]), warming_up=False)
    assert scores[3] == found[-1]  # what was told stays as it was


def test_an_update_of_a_worked_example(make_task: MakeTask) -> None:
    method = make(make_task())
    pairs = np.array([4, 0, 9])
    method.y[pairs] = [1, 1, 0.3]
    found = method._refine(pairs, np.array([0.976096, 0.487073, 0.389150]), warming_up=False)
    np.testing.assert_allclose(found, [0.995219, 0.897415, 0.317830], atol=1e-6)
    np.testing.assert_array_equal(method.y[pairs], found)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_is_used_and_what_is_kept(stage: int, make_task: MakeTask) -> None:
    method = make(make_task(), alpha=0.5, confident=0.3)
    method.stage = stage
    pairs, matching = np.arange(4), np.array([0.0, 0.25, 0.5, 1.0])

    def refine(warming_up: bool) -> tuple[list[float], list[float]]:
        method.y[:4] = [0.2, 0.3, 0.9, 0.0]
        return method._refine(pairs, matching, warming_up).tolist(), method.y[:4].tolist()

    assert refine(False) == ([0.0, 0.0, 0.7, 0.5], [0.0, 0.0, 0.7, 0.5])
    if stage == 0:
        assert refine(True) == ([1.0] * 4, matching.tolist())  # as it is, the small ones too
    else:
        assert refine(True) == ([0.0, 0.3, 0.9, 0.0], [0.0, 0.3, 0.9, 0.0])
    assert (method.y[4:] == 1).all()


class Watch:
    """Follows a method: per update its stage, pairs, warm-up, matching probabilities, y, share of the budget."""

    def __init__(self, method: CRCL) -> None:
        self.method, self.seen = method, []  # type: ignore[var-annotated]
        refine = method._refine

        def spy(pairs: np.ndarray, matching: np.ndarray, warming_up: bool) -> np.ndarray:
            used = refine(pairs, matching, warming_up)
            share = method.task.budget.progress
            self.seen.append((method.stage, pairs.copy(), warming_up, matching.copy(), used.copy(), share))
            return used

        method._refine = spy  # type: ignore[method-assign]


@pytest.mark.parametrize(("budget", "warmup"), [(20.0, 0.1), (20.0, 0.01), (12.0, 0.0)])
def test_correspondences_over_all_stages(budget: float, warmup: float, make_task: MakeTask) -> None:
    """Replays what the network said by the published rules, written out."""
    task = make_task(budget)
    method = make(task, warmup=warmup, lr=3e-2)
    watch = Watch(method)
    updates = train(method)
    assert len(watch.seen) == updates
    y, before = np.ones(48), 0.0
    warm_updates: Counter[int] = Counter()
    for number, (stage, pairs, warming_up, matching, used, share) in enumerate(watch.seen):
        assert stage == (0 if before < 0.2 else 1 if before < 0.4 else 2)
        first_epoch = number < 6 and warmup > 0
        assert warming_up == (before - 0.2 * stage < warmup - 1e-12 or first_epoch)
        warm_updates[stage] += warming_up
        for pair, phat, label in zip(pairs, matching, used, strict=True):
            if stage == 0 and warming_up:
                expected, y[pair] = 1.0, phat
            else:
                expected = y[pair] if warming_up else 0.8 * y[pair] + 0.2 * phat
                expected = 0.0 if expected < 0.1 else expected
                y[pair] = expected
            assert label == pytest.approx(expected, abs=1e-12)
        before = share
    np.testing.assert_allclose(method.pair_scores(), y, atol=1e-12)
    assert watch.seen[-1][0] == 2
    assert warm_updates[0] in {0.1: (12, 13, 14), 0.01: (6,), 0.0: (0,)}[warmup]
    assert (warm_updates[1] > 0) == (warm_updates[2] > 0) == (warmup > 0)


def test_matching_probabilities_are_those_of_the_augmented_batch_in_training(make_task: MakeTask) -> None:
    method = make(make_task(backbone="saf"))
    watch = Watch(method)
    seen: list[tuple[bool, Tensor, Tensor, Tensor]] = []
    method.backbone.register_forward_hook(
        lambda net, given, S: seen.append((net.training, given[0], given[1], S.detach()))
    )
    method.backbone.eval()
    train(method, epochs=2)
    assert len(seen) == len(watch.seen) > 0
    for (training, images, tokens, S), (_, pairs, _, matching, _, _) in zip(seen, watch.seen, strict=True):
        assert training
        batch = method.task.data.batch(pairs)
        assert tokens.shape != batch.tokens.shape or (tokens != batch.tokens).any()
        assert ((images == batch.images) | (images == 1e-10)).all()
        assert (images == 1e-10).any()
        rows, columns = plain_matching(S, TAU)
        np.testing.assert_allclose(matching, (rows.diagonal() + columns.diagonal()) / 2, rtol=1e-4, atol=1e-7)


def test_the_learning_rate_falls_within_a_stage_and_starts_anew(make_task: MakeTask) -> None:
    task = make_task(10.0)
    method = make(task, decay_every=0.15)
    before = 0.0
    rates = set()
    for epoch in range(1000):
        try:
            for _ in train_epoch(method, epoch):
                stage = min(int(before / 0.2), 2)
                cuts = int((task.budget.progress - 0.2 * stage) / 0.15)  # an update is at the rate of its end
                assert method.optimiser.lr == pytest.approx(1e-2 * 0.1**cuts)
                rates.add((stage, cuts))
                before = task.budget.progress
        except BudgetSpent:
            break
    assert rates >= {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)}


def test_correspondences_tell_clean_pairs_from_noisy_ones(
    tiny: Dataset, noisy: np.ndarray, make_task: MakeTask
) -> None:
    method = make(make_task(60.0, claimed=noisy), drop=0.05, change=0.05)
    train(method)
    found = detect(method.pair_scores(), noisy == tiny.splits["train"].true)
    assert found.auc > 0.8


# Stages.


@pytest.mark.parametrize("backbone", ["vse", "saf", "vse-infinity"])
def test_a_stage_starts_with_a_network_of_its_own_in_place_of_the_last(backbone: str, make_task: MakeTask) -> None:
    task = make_task(12.0, backbone=backbone)
    method = make(task)
    net, weights = method.backbone, dict(method.backbone.named_parameters())
    first_optimiser = method.optimiser
    epoch = 0
    while method._due_stage() == 0:
        list(train_epoch(method, epoch))
        epoch += 1
    assert method.stage == 0  # it is the next epoch that begins a stage
    trained, y = copy.deepcopy(net.state_dict()), method.pair_scores()
    random = torch.get_rng_state()
    work = task.budget.used
    method._begin(1)
    torch.set_rng_state(random)
    fresh = task.new_backbone().state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, fresh[name]), name
    drawn = [name for name in trained if not torch.equal(trained[name], fresh[name])]
    assert len(drawn) > len(trained) / 2
    assert method.backbone is net
    assert all(weights[name] is weight for name, weight in net.named_parameters())
    assert method.optimiser is not first_optimiser
    assert method.optimiser.state_dict()["state"] == {}
    np.testing.assert_array_equal(method.pair_scores(), y)
    assert task.budget.used == work
    next(iter(train_epoch(method, epoch)))
    assert task.budget.used > work  # the new network is metered as the old one was
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_every_stage_begins_once_and_one_backbone_is_built(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(15.0)
    built: list[Backbone] = []

    def count() -> Backbone:
        built.append(task.new_backbone())
        return built[-1]

    counted = Task(task.data, task.device, task.budget, count, task.seed)
    begun: list[tuple[int, float]] = []
    method = make(counted)
    begin = method._begin
    monkeypatch.setattr(method, "_begin", lambda stage: (begun.append((stage, task.budget.progress)), begin(stage)))
    train(method)
    assert len(built) == 1
    assert [stage for stage, _ in begun] == [1, 2]
    epoch = 1 / 15
    assert all(0.2 * stage <= share < 0.2 * stage + epoch / 6 for stage, share in begun)  # the update that ends a stage


def test_nothing_but_correspondences_reaches_the_next_stage(make_task: MakeTask) -> None:
    """Two methods that learned different things go on alike once they believe alike."""
    found = []
    for lr in (1e-2, 3e-2):
        task = make_task(12.0)
        method = make(task, warmup=0.0, lr=lr)
        epoch = 0
        while method._due_stage() == 0:
            list(train_epoch(method, epoch))
            epoch += 1
        object.__setattr__(method.config, "lr", 1e-2)
        task.budget.used = task.budget.total // 4
        method.order, method.augmenting = np.random.default_rng(0), np.random.default_rng(1)
        found.append(method.y)
        method.y = np.linspace(0, 1, 48)
        torch.manual_seed(3)
        list(train_epoch(method, epoch))
        assert method.stage == 1
        found.append(torch.cat([weight.detach().flatten() for weight in method.backbone.parameters()]))
    assert not np.array_equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_a_budget_of_less_than_a_stage_per_update(make_task: MakeTask) -> None:
    method = make(make_task(0.5), short_stages=8, short=0.1)
    stages = []
    for epoch in range(1000):
        try:
            for _ in train_epoch(method, epoch):
                stages.append(method.stage)
        except BudgetSpent:
            break
    assert len(stages) == 3
    assert stages[0] == 0
    assert stages == sorted(set(stages))  # stages are skipped, never repeated


def test_one_stage_is_plain_training(make_task: MakeTask) -> None:
    method = make(make_task(2.0), short_stages=0, short=0.9)
    train(method)
    assert method.stage == 0


# Training as a whole.


@pytest.mark.parametrize("budget", [8.0, 3.3])
def test_updates_are_those_of_a_plain_loop(budget: float, noisy: np.ndarray, make_task: MakeTask) -> None:
    """The same training by hand: a network and an AdamW per stage, losses by torch's cross-entropy and loops."""
    settings = {"change": 0.0, "drop": 0.0, "clip": 0.5, "weight_decay": 0.1, "warmup": 0.1, "alpha": 0.6}
    task = make_task(budget, claimed=noisy)
    torch.manual_seed(11)
    method = make(task, **settings)
    updates = train(method)

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
    method = make(task)
    updates = train(method)
    assert updates >= 2
    assert task.budget.used <= task.budget.total
    assert task.budget.used > task.budget.total - task.budget.total / budget / 5  # less than one more update


def test_shorter_captions_cost_less(make_task: MakeTask) -> None:
    spent = []
    for change in (0.0, 1.0):
        task = make_task()
        train(make(task, change=change), epochs=1)
        spent.append(task.budget.used)
    assert spent[1] < spent[0]


@pytest.mark.parametrize("backbone", ["vse", "saf"])
@pytest.mark.parametrize("epochs", [1, 4, 6, 8])
def test_training_goes_on_from_a_state_bit_by_bit(backbone: str, epochs: int, make_task: MakeTask) -> None:
    task = make_task(12.0, backbone=backbone)
    method = make(task, decay_every=0.1)
    train(method, epochs=epochs)
    assert method.stage == {1: 0, 4: 1, 6: 1, 8: 2}[epochs]
    assert method._due_stage() == {1: 0, 4: 1, 6: 2, 8: 2}[epochs]
    state, used, random = method.state_dict(), task.budget.used, torch.get_rng_state()
    updates = train(method, first=epochs)

    task = make_task(12.0, backbone=backbone, seed=0)
    other = make(task, decay_every=0.1)
    other.load_state_dict(state)
    task.budget.used = used
    torch.set_rng_state(random)
    assert train(other, first=epochs) == updates > 0
    assert other.stage == method.stage == 2
    assert other.optimiser.lr == method.optimiser.lr
    np.testing.assert_array_equal(other.pair_scores(), method.pair_scores())
    for (name, ours), theirs in zip(
        method.backbone.state_dict().items(), other.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_the_state_is_all_but_what_the_harness_gives(make_task: MakeTask) -> None:
    method = make(make_task())
    assert set(method.state_dict()) == {"order", "augmenting", "backbone", "y", "stage", "optimiser"}
    with pytest.raises(KeyError, match="the state of crcl differs in augmenting, backbone, optimiser, order, stage"):
        method.load_state_dict({"y": np.ones(48)})


# Augmentation.


def batch_of(lengths: list[int], vocabulary: int = 1000) -> Batch:
    """Return captions of words from the upper half of a vocabulary."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(vocabulary // 2, vocabulary, (len(lengths), max(lengths)))
    tokens[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = 0
    return Batch(np.arange(len(lengths)), torch.zeros(0), torch.from_numpy(tokens), torch.tensor(lengths))


def test_what_becomes_of_tokens() -> None:
    before = batch_of([40] * 2000)
    after = crcl.change_tokens(before, 0.2, 500, np.random.default_rng(1))  # random words: the lower half
    assert torch.equal(before.tokens, batch_of([40] * 2000).tokens)
    left = after.tokens[after.tokens > 0]
    n = 80_000
    shares = {
        "unknown": (left == 3).sum().item() / n,
        "random": ((left < 500) & (left != 3)).sum().item() / n,
        "deleted": 1 - after.lengths.sum().item() / n,
    }
    assert shares == pytest.approx({"unknown": 0.1, "random": 0.02, "deleted": 0.08}, abs=4e-3)
    assert len(left[(left < 500) & (left != 3)].unique()) > 450  # all words, alike
    inside = torch.arange(after.tokens.shape[1]) < after.lengths[:, None]
    assert (after.tokens[~inside] == 0).all()
    assert after.tokens.shape[1] == after.lengths.max()
    assert (after.tokens.dtype, after.lengths.dtype) == (torch.int64, torch.int64)
    # Changes come one by one: the variance of the deleted tokens per caption is that of a binomial distribution.
    assert (40 - after.lengths).double().var().item() == pytest.approx(40 * 0.08 * 0.92, rel=0.15)


def test_words_stay_in_their_order() -> None:
    before = batch_of([3, 60, 1, 30] * 50)
    after = crcl.change_tokens(before, 0.5, 500, np.random.default_rng(2))
    shorter = 0
    for old, new, length in zip(before.tokens.tolist(), after.tokens.tolist(), after.lengths.tolist(), strict=True):
        words = iter(old)
        assert all(word in words for word in new[:length] if word >= 500)  # a subsequence
        assert length >= 1
        shorter += length < sum(word > 0 for word in old)
    assert shorter > 50


def test_every_place_is_changed_alike_marks_included() -> None:
    before = batch_of([4] * 20_000)
    after = crcl.change_tokens(before, 0.2, 500, np.random.default_rng(3))
    whole = after.lengths == 4
    changed = (after.tokens[whole] != before.tokens[whole]).double().mean(0)
    np.testing.assert_allclose(changed, 0.12 / 0.92, atol=0.01)


def test_no_caption_is_lost() -> None:
    before = batch_of([1, 2, 3] * 2000)
    after = crcl.change_tokens(before, 1.0, 500, np.random.default_rng(4))
    assert after.lengths.min() == 1
    kept = after.tokens[:, 0] >= 500
    # Of single tokens 40 % would be deleted, of two 16 %, of three 6.4 %: those captions keep their first.
    np.testing.assert_allclose([kept[n::3].double().mean() for n in range(3)], [0.4, 0.16, 0.064], atol=0.03)
    assert torch.equal(after.tokens[kept, 0], before.tokens[kept, 0])
    assert (after.lengths[kept] == 1).all()


def test_a_rate_of_zero_changes_nothing() -> None:
    before = batch_of([3, 5, 1])
    after = crcl.change_tokens(before, 0.0, 500, np.random.default_rng(0))
    assert torch.equal(after.tokens, before.tokens)
    assert torch.equal(after.lengths, before.lengths)
    assert after.images is before.images
    images = torch.rand(3, 4, 2)
    assert torch.equal(crcl.drop_regions(images, 0.0, np.random.default_rng(0)), images)


def test_regions_are_dropped_in_a_copy() -> None:
    images = torch.rand(500, 36, 5) + 1
    before = images.clone()
    after = crcl.drop_regions(images, 0.2, np.random.default_rng(5))
    assert torch.equal(images, before)
    dropped = (after == 1e-10).all(2)
    assert torch.equal(after[~dropped], images[~dropped])
    assert dropped.double().mean().item() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(dropped.double().mean(0), 0.2, atol=0.08)
    assert dropped.sum(1).double().var().item() == pytest.approx(36 * 0.2 * 0.8, rel=0.2)


def test_the_data_set_stays_as_it_is(tiny: Dataset, make_task: MakeTask) -> None:
    train_split = tiny.splits["train"]
    images, (tokens, lengths) = train_split.images.take(np.arange(24)), train_split.captions.padded(np.arange(48))
    method = make(make_task(), change=0.9, drop=0.9)
    train(method, epochs=5)
    np.testing.assert_array_equal(train_split.images.take(np.arange(24)), images)
    np.testing.assert_array_equal(train_split.captions.padded(np.arange(48))[0], tokens)
    np.testing.assert_array_equal(train_split.captions.padded(np.arange(48))[1], lengths)


# Settings.


def test_published_defaults() -> None:
    config = CRCL.Config()
    assert (config.batch_size, config.lr, config.clip, config.weight_decay) == (128, 5e-4, 2.0, 0.01)
    assert (config.tau, config.alpha, config.complementary, config.confident) == (0.05, 0.8, 5.0, 0.1)
    epochs = 53
    assert config.short_stages == 3
    assert [round(share * epochs, 9) for share in (config.short, config.warmup, config.decay_every)] == [7, 2, 15]
    assert round((1 - config.short_stages * config.short) * epochs, 9) == 32
    assert (config.change, config.drop) == (0.2, 0.2)


def test_settings_are_bounded_and_explained() -> None:
    assert issubclass(CRCL.Config, Settings)
    for entry in fields(CRCL.Config):
        assert entry.metadata["meaning"]
        assert entry.metadata["source"]
        assert {"above", "at least", "at most"} & set(entry.metadata), entry.name
    for preset in CRCL.presets.values():
        CRCL.Config(**preset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.1}, "alpha must be at most 1, found 1.1"),
        ({"drop": -0.1}, "drop must be at least 0, found -0.1"),
        ({"tau": 0.0}, "tau must be above 0, found 0.0"),
        ({"short_stages": -1}, "short_stages must be at least 0, found -1"),
        (
            {"short_stages": 4, "short": 0.25},
            "short_stages times short must be below 1 to leave budget for the last stage, found 4 and 0.25",
        ),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(CRCL, settings)
    assert str(caught.value) == f"settings of crcl: {message}."


def test_numbers_of_vectors_are_dropped_in_a_copy() -> None:
    vectors = torch.ones(50, 40)
    found = crcl.drop_numbers(vectors, 0.3, np.random.default_rng(0))
    assert (vectors == 1).all()
    assert set(found.unique().tolist()) == {np.float32(crcl.DROPPED).item(), 1.0}
    assert (found != 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
