"""DECL: evidence, its loss, the hinge over fewer and fewer negatives, and the judgement of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up
from similarities import uniform
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from ncbench import Batch, Task, evidence
from ncbench.budget import BudgetSpent, EpochMeter, WorkMeter
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.noise.registry import draw_noise
from ncbench_methods import decl
from ncbench_methods.decl import DECL, dynamic_hinge, own_share

MakeTask = Callable[..., Task]

RAW = torch.tensor([[0.9, 0.2, -0.4], [0.1, 0.3, 0.6], [-0.5, 0.0, 0.8]], dtype=torch.float64)
T = RAW.tanh()
EVIDENCE = (T / 0.1).exp()

make = partial(set_up, DECL, warmup=0.0)


# Scores.


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_scores_of_sigmoids_and_of_cosines(backbone: str, make_task: MakeTask) -> None:
    method = make(make_task(backbone=backbone))
    method.backbone.eval()
    batch = method.task.data.batch(np.arange(0, 16, 2))
    with torch.no_grad():
        similarities = method.backbone(*batch.inputs)
        scores = method._scores(similarities)
        similarities = similarities.double()
    assert scores.dtype == torch.float64
    expected = similarities.logit().tanh() if backbone == "saf" else similarities
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-7)
    assert scores.std() > 1e-4


# The hinge.


@pytest.mark.parametrize(
    ("n", "expected"),
    [(3, (0, 0.186718, 0.024338)), (2, (0, 0.280078, 0.036506)), (1, (0, 0.551800, 0.073013))],
)
def test_worked_example_of_the_hinge(n: int, expected: tuple[float]) -> None:
    assert dynamic_hinge(T, 0.2, n).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_hinge_against_a_naive_loop(n: int) -> None:
    S = 2 * uniform(7, 7, seed=4) - 1
    found = dynamic_hinge(S, 0.3, n)
    for i in range(7):
        of_image = sorted(max(0.0, 0.3 + S[i, j].item() - S[i, i].item()) for j in range(7) if j != i)
        of_caption = sorted(max(0.0, 0.3 + S[j, i].item() - S[i, i].item()) for j in range(7) if j != i)
        assert found[i].item() == pytest.approx((sum(of_image[-n:]) + sum(of_caption[-n:])) / n, abs=1e-12)


def test_negatives_fall_as_published_on_f30k() -> None:
    """128 - 0.025 step, at least 5, in 45 epochs of 1,133 steps; at steps away from where the integer changes."""
    method = DECL(DECL.Config())
    meter = WorkMeter(1133 * 45)
    method.task = SimpleNamespace(budget=meter)
    found = []
    for step in range(20, 1133 * 45, 40):
        meter.used = step
        found.append(method._negatives(1000))
        assert found[-1] == max(int(128 - 0.025 * step), 5)
    assert (max(found), min(found)) == (127, 5)
    meter.used = 4920 - 41
    assert method._negatives(1000) == 6
    meter.used = 4920
    assert method._negatives(1000) == 5


def test_negatives_follow_updates_where_the_budget_is_in_epochs(make_task: MakeTask) -> None:
    pairs, size = 145_000, 128
    meter = EpochMeter(45)
    meter.expect(pairs)
    method = DECL(DECL.Config())
    method.task = replace(make_task(), budget=meter)
    means = []
    for _ in range(5):
        found = []
        for start in range(0, pairs, size):
            found.append(method._negatives(1000))
            meter.charge(1, samples=min(size, pairs - start))
        meter.epoch_over()
        means.append(np.mean(found))
    assert means == pytest.approx([113, 85, 57, 28, 6.5], abs=0.6)  # as in the released code, which counts steps


@pytest.mark.parametrize(("dataset", "steps", "epochs"), [("coco", 4426, 22), ("cc152k", 1172, 45)])
def test_negatives_fall_as_published_elsewhere(dataset: str, steps: int, epochs: int) -> None:
    method = DECL(DECL.Config(**DECL.presets[dataset]))
    meter = WorkMeter(steps * epochs)
    method.task = SimpleNamespace(budget=meter)
    for step in (20, 2020, 4020, 4860, 4940, 9020):
        meter.used = step
        assert method._negatives(1000) == max(int(128 - 0.025 * step), 5)


@pytest.mark.parametrize(
    ("batch_size", "negatives", "size", "used", "expected"),
    [
        (8, 5, 8, 0, 7),  # a pair is no negative of itself
        (8, 5, 8, 50, 6),
        (8, 5, 8, 100, 5),
        (8, 5, 8, 1000, 5),
        (8, 5, 4, 0, 3),  # a short batch
        (8, 5, 2, 1000, 1),
        (4, 5, 4, 1000, 3),  # more negatives at last than a batch has
        (32, 1, 32, 1000, 1),
    ],
)
def test_negatives_of_small_batches(batch_size: int, negatives: int, size: int, used: int, expected: int) -> None:
    method = DECL(DECL.Config(batch_size=batch_size, negatives=negatives, shrink=0.1))
    meter = WorkMeter(1000)
    meter.used = used
    method.task = SimpleNamespace(budget=meter)
    assert method._negatives(size) == expected


# The judgement.


def test_worked_example_of_the_judgement() -> None:
    """From the rows of E + E^T, normalised: the second pair has 0.140190 where its strongest rival has 0.822099."""
    found = own_share(EVIDENCE).tolist()
    rows = [(0.996165, 0.003823), (0.140190, 0.822099), (0.876341, 0.123640)]
    assert found == pytest.approx([own / (own + rival) for own, rival in rows], abs=2e-6)
    assert [share >= 0.5 for share in found] == [True, False, True]


@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_judgement_against_an_argmax(size: int) -> None:
    seen = set()
    for seed in range(20):
        evidence = (8 * (2 * uniform(size, size, seed=seed) - 1) + 3 * torch.eye(size)).exp()
        mutual = [[(evidence[i, j] + evidence[j, i]).item() for j in range(size)] for i in range(size)]
        expected = [max(range(size), key=row.__getitem__) == i for i, row in enumerate(mutual)]
        found = own_share(evidence)
        assert [share >= 0.5 for share in found.tolist()] == expected
        assert ((found >= 0) & (found <= 1)).all()
        seen.update(expected)
    assert seen == {True, False}


def test_equal_evidence_is_no_reason_to_doubt() -> None:
    assert own_share(torch.ones(4, 4)).tolist() == [0.5] * 4


# Training.


def naive_update(scores: Tensor, clean: list[bool], n: int) -> Tensor:
    """The loss of a batch from tanh(r), pair by pair."""
    size = len(scores)
    evidence = (scores / 0.1).exp()
    loss = scores.new_zeros(())
    for matrix in (evidence, evidence.T):
        for i, row in enumerate(matrix):
            belief = Dirichlet(row + 1)
            label = torch.zeros(size, dtype=row.dtype)
            label[i] = float(clean[i])
            wrong = torch.stack([torch.ones_like(e) if j == i and clean[i] else e + 1 for j, e in enumerate(row)])
            divergence = kl_divergence(Dirichlet(wrong), Dirichlet(torch.ones_like(wrong)))
            squares = ((label - belief.mean) ** 2).sum() + belief.variance.sum()
            loss = loss + (squares + 0.1 * divergence) / size
    for i in range(size):
        if clean[i]:
            for row in (scores[i], scores[:, i]):
                costs = [(0.2 + row[j] - row[i]).clamp(min=0) for j in range(size) if j != i]
                loss = loss + 0.8 * torch.stack(costs).sort().values[-n:].sum() / n
    return loss


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_updates_are_those_of_a_plain_loop(backbone: str, make_task: MakeTask) -> None:
    """An epoch of warm-up, then two of judging and training: clipped Adam at a rate that falls."""
    total, settings = 4.0, {"clip": 0.5, "warmup": 0.25, "decay_every": 0.4, "shrink": 0.5, "negatives": 2}
    method = make(make_task(total, backbone=backbone), **settings)
    done = [len(list(train_epoch(method, epoch))) for epoch in range(3)]
    assert done == [6, 6, 6]

    task = make_task(total, backbone=backbone)
    net, rng = task.new_backbone(), task.rng("order of pairs")
    adam = torch.optim.Adam(net.parameters(), 1e-2)

    def batches() -> list[Batch]:
        order = rng.permutation(48)
        return [task.data.batch(order[start : start + 8]) for start in range(0, 48, 8)]

    def scores_of(batch: Batch) -> Tensor:
        scores = net(*batch.inputs).double()
        return scores if backbone == "vse" else scores.logit().tanh()

    clean, judged, counts = np.ones(48, bool), [], set()
    for epoch in range(3):
        if epoch > 0:
            net.eval()
            for batch in batches():
                with torch.no_grad():
                    mutual = (scores_of(batch) / 0.1).exp()
                clean[batch.pairs] = ((mutual + mutual.T).argmax(1) == torch.arange(8)).numpy()
            judged.append(clean.copy())
        net.train()
        for batch in batches():
            scores = scores_of(batch)
            progress = task.budget.progress
            n = min(7, max(2, int(8 - 6 * progress / 0.5)))
            counts.add(n)
            adam.zero_grad()
            naive_update(scores, clean[batch.pairs].tolist(), n).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.param_groups[0]["lr"] = 1e-2 * 0.1 ** int(max(0.0, progress - 0.25) / 0.4)
            adam.step()
    assert counts == {2, 3, 5, 6, 7}
    assert all(0 < found.sum() < 48 for found in judged)
    np.testing.assert_array_equal(method.pair_scores() >= 0.5, judged[-1])
    # Similarities, not weights: biases before a batch norm or a softmax get rounding errors, which Adam makes large.
    batch = task.data.batch(np.arange(48))
    fresh = make_task(total, backbone=backbone).new_backbone()
    found = []
    for network in (method.backbone, net, fresh):
        network.on_work = lambda *_: None
        with torch.no_grad():
            found.append(network.eval()(*batch.inputs))
    ours, theirs, at_first = found
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert (ours - at_first).abs().max() > 0.05


def test_warm_up_takes_its_share_and_judges_nothing(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(budget=10.0)
    trained: list[tuple[float, bool]] = []

    losses = evidence.evidential_losses

    def spy(found: Tensor, clean: Tensor, kl_weight: float) -> Tensor:
        trained.append((task.budget.progress, bool(clean.all())))
        assert kl_weight == 0.25
        return losses(found, clean, kl_weight)

    monkeypatch.setattr(evidence, "evidential_losses", spy)
    method = make(task, warmup=0.25, kl_weight=0.25)
    for epoch in range(3):
        assert method.pair_scores() is None
        list(train_epoch(method, epoch))
    trained = trained[::2]  # once per direction
    assert len(trained) in (14, 15, 16)  # a quarter of ten epochs of six batches, ended within the third epoch
    assert all(share < 0.25 + 1 / 60 + 1e-9 for share, _ in trained)
    assert all(clean for _, clean in trained)
    n_warm = len(trained)
    trained.clear()
    list(train_epoch(method, 3))
    trained = trained[::2]
    assert n_warm > len(trained) == 6
    assert not all(clean for _, clean in trained)
    scores = method.pair_scores()
    assert (scores.shape, scores.dtype) == ((48,), np.float64)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_judging_costs_a_forward_pass(make_task: MakeTask) -> None:
    warm, judging = make(make_task(), warmup=1.0), make(make_task())
    for method in (warm, judging):
        list(train_epoch(method, 0))
    assert judging.task.budget.used == pytest.approx(4 / 3 * warm.task.budget.used, rel=0.01)


def test_judging_leaves_the_network_alone(make_task: MakeTask) -> None:
    method = make(make_task(backbone="saf"))
    before = {name: value.clone() for name, value in method.backbone.state_dict().items()}
    method._judge()
    assert not method.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in method.backbone.state_dict().items())
    next(iter(train_epoch(method, 0)))
    assert method.backbone.training


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_pair_that_no_batch_takes_is_judged_as_before(
    share: float, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 pairs in batches of 47 leave one out."""
    method = make(make_task(), batch_size=47)
    monkeypatch.setattr(decl, "own_share", lambda evidence: torch.full((len(evidence),), share))
    assert len(list(train_epoch(method, 0))) == 1
    first = method.pair_scores()
    (left,) = np.flatnonzero(first == 0.5)
    assert np.delete(first, left).tolist() == pytest.approx([share] * 47)
    method.p_clean = np.full(48, 0.25)
    again = method._judge()
    (left,) = np.flatnonzero(again == 0.25)
    assert np.delete(again, left).tolist() == pytest.approx([share] * 47)


def test_noisy_pairs_have_no_hinge_loss(make_task: MakeTask) -> None:
    method = make(make_task())
    method.p_clean = np.zeros(48)
    batch = method.task.data.batch(np.arange(0, 16, 2))
    scalars = method._update(batch)
    assert scalars["loss_hinge"] == 0
    method.p_clean[batch.pairs[3]] = 0.5
    scalars = method._update(batch)
    assert scalars["loss_hinge"] > 0
    assert scalars["loss"] == pytest.approx(scalars["loss_hinge"] + scalars["loss_evidence"])


def test_training_lowers_the_loss(make_task: MakeTask) -> None:
    method = make(make_task(), warmup=1.0)
    epochs = [np.mean([scalars["loss"] for scalars in train_epoch(method, epoch)]) for epoch in range(8)]
    assert epochs[-1] < 0.8 * epochs[0]


def test_budget_and_short_batches(make_task: MakeTask) -> None:
    method = make(make_task(budget=0.5))
    updates = train_epoch(method, 0)
    next(updates)
    with pytest.raises(BudgetSpent):
        list(updates)
    losses = [scalars["loss"] for scalars in train_epoch(make(make_task(), batch_size=46), 0)]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))


def test_one_who_knows_tells_clean_pairs_from_noisy_ones(tiny: Dataset, make_task: MakeTask) -> None:
    true = tiny.splits["train"].true
    claimed = draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed
    method = make(make_task(claimed=claimed), batch_size=48)  # all pairs in one batch: no draw decides

    def similarities(images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """How many of the named shapes an image shows."""
        seen = images.round().sum(1)  # (I, shapes)
        said = torch.stack([(tokens == 4 + shape).sum(1) for shape in range(6)], 1).float()
        return 2 * torch.minimum(seen[:, None], said).sum(-1) / said.sum(-1) - 1

    method.backbone.forward = similarities
    found = detect(method._judge(), claimed == true)
    assert found.auc > 0.95
    assert found.precision > 0.9
    assert found.recall > 0.8


def test_no_rematches(make_task: MakeTask) -> None:
    method = make(make_task())
    list(train_epoch(method, 0))
    assert method.rematches() is None


def test_published_settings() -> None:
    config = DECL.Config()
    assert (config.batch_size, config.lr, config.clip, config.tau) == (128, 2e-4, 2.0, 0.1)
    assert (config.hinge_weight, config.kl_weight, config.margin, config.negatives) == (0.8, 0.1, 0.2, 5)
    assert (config.warmup, config.decay_every) == (5 / 45, 20 / 45)
    coco = DECL.Config(**DECL.presets["coco"])
    assert (coco.lr, coco.warmup, coco.decay_every) == (5e-4, 2 / 22, 10 / 22)
    assert {"scenes", "scenes-large"} <= set(DECL.presets)
    for preset in DECL.presets.values():
        assert DECL.Config(**preset) != config


@pytest.mark.parametrize("key", ["lr", "decay_every", "tau", "shrink"])
def test_settings_that_must_be_positive(key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be above 0, found 0.0$"):
        DECL.Config(**{key: 0.0})


def test_at_least_one_negative() -> None:
    with pytest.raises(ValueError, match=r"^negatives must be at least 1, found 0$"):
        DECL.Config(negatives=0)
