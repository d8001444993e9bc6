"""GSC: two measures of every pair, what they average to, and losses that they weigh."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from epochs import train_epoch
from set_up import set_up
from similarities import EXAMPLE, uniform
from sklearn.mixture import GaussianMixture
from sources import Source
from torch import Tensor

from ncbench import Batch, Task, UserError
from ncbench.backbones.registry import BACKBONES
from ncbench.budget import Budget, BudgetSpent
from ncbench.data.dataset import Dataset
from ncbench.evaluation.beliefs import detect
from ncbench.noise.registry import draw_noise
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench_methods import gsc
from ncbench_methods.gsc import GSC, matching, neighbourhoods

MakeTask = Callable[..., Task]

OF_IMAGES = torch.tensor([[0.9, 0.4, 0.2], [0.4, 0.9, 0.3], [0.2, 0.3, 0.9]], dtype=torch.float64)
OF_CAPTIONS = torch.tensor([[0.9, 0.5, 0.3], [0.4, 0.9, 0.7], [0.1, 0.6, 0.9]], dtype=torch.float64)
WEIGHTS = torch.tensor([1, 0.6, 0.2], dtype=torch.float64)

make = partial(set_up, GSC)


# Measures and losses.


def test_worked_example_across() -> None:
    rows, columns = (-(matrix / 0.07).log_softmax(1).diagonal() for matrix in (EXAMPLE, EXAMPLE.T))
    assert rows.tolist() == pytest.approx([0.111639, 1.117267, 0.400680], abs=1e-6)
    assert columns.tolist() == pytest.approx([0.003482, 0.474282, 2.255234], abs=1e-6)
    losses, q = matching(EXAMPLE, 0.07)
    assert losses.tolist() == pytest.approx(((rows + columns) / 2).tolist(), abs=1e-12)
    assert q.tolist() == pytest.approx([0.945445, 0.474752, 0.387357], abs=1e-6)
    assert (WEIGHTS * losses).mean().item() == pytest.approx(0.266872, abs=1e-6)


def test_worked_example_within() -> None:
    losses, z = neighbourhoods(OF_IMAGES, OF_CAPTIONS, WEIGHTS)
    assert losses.tolist() == pytest.approx([0.776471, 1.055880, 1.170943], abs=1e-6)
    assert z.tolist() == pytest.approx([0.997932, 0.993240, 0.872937], abs=1e-6)
    within = (WEIGHTS * losses).mean().item()
    assert within == pytest.approx(0.548062, abs=1e-6)
    across = (WEIGHTS * matching(EXAMPLE, 0.07)[0]).mean().item()
    assert across + 0.01 * within == pytest.approx(0.272353, abs=1e-6)


@pytest.mark.parametrize("size", [2, 7])
def test_measures_against_naive_loops(size: int) -> None:
    scores, of_images, of_captions, weights = (uniform(*shape, seed=size) for shape in [(size, size)] * 3 + [(size,)])
    of_captions = of_captions.roll(1, 0)
    losses, q = matching(scores, 0.3)
    inner, z = neighbourhoods(of_images, of_captions, weights)
    for i in range(size):
        row = [math.exp(scores[i, j] / 0.3) for j in range(size)]
        column = [math.exp(scores[j, i] / 0.3) for j in range(size)]
        p = row[i] / sum(row), column[i] / sum(column)
        assert losses[i].item() == pytest.approx(-(math.log(p[0]) + math.log(p[1])) / 2, rel=1e-9)
        assert q[i].item() == pytest.approx(sum(p) / 2, rel=1e-9)
        image = [of_images[i, j].item() * weights[j].item() for j in range(size)]
        captions = [[of_captions[k, j].item() * weights[j].item() for j in range(size)] for k in range(size)]
        topology = [sum(a * b for a, b in zip(image, caption, strict=True)) for caption in captions]
        exponentials = [math.exp(value) for value in topology]
        assert inner[i].item() == pytest.approx(-math.log(exponentials[i] / sum(exponentials)), rel=1e-9)
        assert z[i].item() == pytest.approx(topology[i] / (math.hypot(*image) * math.hypot(*captions[i])), rel=1e-9)


def test_gradients_flow_into_scores_and_not_into_measures() -> None:
    matrices = [uniform(4, 4, seed=seed).requires_grad_() for seed in range(3)]
    weights = uniform(4, seed=3)
    assert torch.autograd.gradcheck(lambda scores: matching(scores, 0.3)[0], matrices[0])
    assert torch.autograd.gradcheck(lambda *within: neighbourhoods(*within, weights)[0], matrices[1:])
    assert not matching(matrices[0], 0.3)[1].requires_grad
    assert not neighbourhoods(*matrices[1:], weights)[1].requires_grad


def test_neighbourhoods_of_the_largest_batch_in_single_precision() -> None:
    """128 pairs, all alike: every logit is 128, whose exponential float32 does not hold."""
    within = torch.ones(128, 128, requires_grad=True)
    losses, z = neighbourhoods(within, within, torch.ones(128))
    assert losses.tolist() == pytest.approx([math.log(128)] * 128)
    assert z.tolist() == pytest.approx([1.0] * 128)
    losses.sum().backward()
    assert within.grad.isfinite().all()
    lone = torch.eye(128)  # with one neighbourhood apart: a logit of 1 beside 127 of 0
    assert neighbourhoods(lone, lone, torch.ones(128))[0][0].item() == pytest.approx(math.log(1 + 127 / math.e))


def test_neighbourhoods_that_nobody_believes_in() -> None:
    losses, z = neighbourhoods(OF_IMAGES, OF_CAPTIONS, torch.zeros(3))
    assert losses.tolist() == pytest.approx([math.log(3)] * 3)
    assert z.tolist() == [0.0] * 3


# Averages over the epochs.


def test_worked_example_of_the_weights(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make(make_task())
    posterior = np.array([0.99, 0.5, 0.02])
    monkeypatch.setattr(
        gsc.mixture, "gaussian_posterior", lambda x, seed: (np.column_stack([posterior, 1 - posterior]), None)
    )
    method.q = np.array([0.945445, 0.474752, 0.387357])
    method.z = np.array([0.997932, 0.993240, 0.872937])
    method.q_mean, method.z_mean = np.ones((2, 3))
    assert method.pair_scores().tolist() == [1.0] * 3
    for expected in [(0.961812, 0.632326, 0.314), (0.950355, 0.522024, 0.1082), (0.946918, 0.488934, 0.04646)]:
        method._average()
        assert method.pair_scores().tolist() == pytest.approx(expected, abs=1e-6)


def test_clean_is_the_larger_mean(make_task: MakeTask) -> None:
    """As scikit-learn fits the cosines themselves, scaled by their extremes, with the published constants."""
    method = make(make_task(), beta=1.0)
    rng = np.random.default_rng(0)
    method.z = np.where(np.arange(48) < 30, rng.normal(0.9, 0.02, 48), rng.normal(0.6, 0.1, 48))
    method._average()
    scaled = ((method.z - method.z.min()) / np.ptp(method.z))[:, None]
    fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(scaled)
    expected = fitted.predict_proba(scaled)[:, fitted.means_.argmax()]
    np.testing.assert_allclose(method.z_mean, expected, atol=1e-6)
    assert method.z_mean[:30].min() > 0.8
    assert method.z_mean[30:].mean() < 0.1
    np.testing.assert_array_equal(method.q_mean, method.q)


def test_neighbourhoods_that_agree_alike_are_no_reason_to_doubt(make_task: MakeTask) -> None:
    method = make(make_task())
    method.z[:] = 0.7
    method._average()
    assert method.pair_scores().tolist() == [1.0] * 48


# Training.


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_updates_are_those_of_a_plain_loop(backbone: str, make_task: MakeTask) -> None:
    """Three epochs, in which weights come to differ: clipped Adam at a rate that falls to a fifth."""
    settings = {"clip": 0.5, "decay_every": 0.2, "gamma": 0.5, "tau": 0.2, "beta": 0.6}
    method = make(make_task(12.0, backbone=backbone), **settings)
    found_losses = [scalars["loss"] for epoch in range(3) for scalars in train_epoch(method, epoch)]

    task = make_task(12.0, backbone=backbone)
    net, rng, guessing = task.new_backbone(), task.rng("order of pairs"), task.rng("first guess of the mixture")
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    q, z, q_mean, z_mean = np.ones((4, 48))
    rates, losses = set(), []
    for _ in range(3):
        order = rng.permutation(48)
        t = np.minimum(q_mean, z_mean)
        for start in range(0, 48, 8):
            batch = task.data.batch(order[start : start + 8])
            images, captions = net.encode_images(batch.images), net.encode_captions(batch.tokens, batch.lengths)
            scores = net.score(images, captions)
            within = net.score_images(images, images), net.score_captions(captions, captions)
            if backbone == "vse":
                within = [0.5 + matrix / 2 for matrix in within]
            belief = torch.tensor(t[batch.pairs], dtype=torch.float32)
            loss = torch.zeros(())
            topology = (within[0] * belief) @ (within[1] * belief).T
            for i in range(8):
                p = (scores[i] / 0.2).softmax(0)[i], (scores[:, i] / 0.2).softmax(0)[i]
                across = -(p[0].log() + p[1].log()) / 2
                loss = loss + belief[i] * (across - 0.5 * topology[i].softmax(0)[i].log()) / 8
                q[batch.pairs[i]] = (p[0] + p[1]).item() / 2
                mine, its = (within[0][i] * belief).detach(), (within[1][i] * belief).detach()
                z[batch.pairs[i]] = (mine @ its / (mine.norm() * its.norm())).item()
            losses.append(loss.item())
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.param_groups[0]["lr"] = 1e-2 * 0.2 ** int(task.budget.progress / 0.2)
            rates.add(adam.param_groups[0]["lr"])
            adam.step()
        scaled = (z.max() - z)[:, None] / np.ptp(z)
        state = int(guessing.integers(2**31))
        fitted = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=state).fit(scaled)
        prob = fitted.predict_proba(scaled)[:, fitted.means_.argmin()]
        q_mean, z_mean = 0.6 * q + 0.4 * q_mean, 0.6 * prob + 0.4 * z_mean
    assert len(rates) > 1
    assert len(losses) == 18
    assert found_losses[:12] == pytest.approx(losses[:12], rel=1e-3)
    assert found_losses == pytest.approx(losses, rel=5e-3)  # rounding grows with every update
    difference = np.abs(method.pair_scores() - np.minimum(q_mean, z_mean))
    assert np.median(difference) < 1e-3
    assert difference.max() < 2e-2
    assert method.pair_scores().std() > 0.02


def test_weights_change_between_epochs_only(make_task: MakeTask) -> None:
    method = make(make_task())
    updates = train_epoch(method, 0)
    for _ in range(6):
        next(updates)
        assert method.pair_scores().tolist() == [1.0] * 48
    assert method.q.max() < 1
    assert list(updates) == []
    first = method.pair_scores()
    assert first.max() < 1
    np.testing.assert_allclose(method.q_mean, 0.7 * method.q + 0.3)
    list(train_epoch(method, 1))
    assert not np.array_equal(method.pair_scores(), first)


def test_a_pair_that_no_batch_takes_keeps_its_measures(make_task: MakeTask) -> None:
    """48 pairs in batches of 47 leave one out."""
    method = make(make_task(), batch_size=47)
    method.q[:], method.z[:] = 0.123, 0.456
    assert len(list(train_epoch(method, 0))) == 1
    (left,) = np.flatnonzero(method.q == 0.123)
    assert np.flatnonzero(method.z == 0.456).tolist() == [left]
    assert 0 <= method.pair_scores()[left] < 1


def test_short_batches_mode_and_budget(make_task: MakeTask) -> None:
    losses = [scalars["loss"] for scalars in train_epoch(make(make_task(), batch_size=46), 0)]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    method = make(make_task(budget=1.0, backbone="saf"))
    method.backbone.eval()
    updates = train_epoch(method, 0)
    next(updates)
    assert method.backbone.training
    with pytest.raises(BudgetSpent):
        list(updates)
    assert method.pair_scores().tolist() == [1.0] * 48


@pytest.mark.parametrize("backbone", ["vse", "saf", "sgr"])
def test_an_epoch_charges_three_passes(backbone: str, make_task: MakeTask) -> None:
    method = make(make_task(backbone=backbone))
    net, data = method.backbone, method.task.data
    list(train_epoch(method, 0))
    order, expected = method.task.rng("order of pairs").permutation(48), 0
    for start in range(0, 48, 8):
        lengths = data.batch(order[start : start + 8]).lengths.tolist()
        expected += 8 * net.image_work(3) + sum(net.caption_work(length) for length in lengths)
        expected += 8 * sum(net.pair_work(3, length) for length in lengths) + 64 * net.image_pair_work(3)
        expected += sum(net.caption_pair_work(length, other) for length in lengths for other in lengths)
    assert method.task.budget.used == 3 * expected


@pytest.mark.parametrize(
    ("backbone", "epochs", "seeds"), [("vse", 8, 1), ("vse-infinity", 8, 1), ("saf", 16, 1), ("sgr", 16, 3)]
)
def test_training_finds_captions(backbone: str, epochs: int, seeds: int, tiny: Dataset, make_task: MakeTask) -> None:
    """On clean pairs: the right of eight dev images comes first more often than by chance, one time in eight."""
    dev = tiny.splits["dev"]
    tokens, lengths = dev.captions.padded(np.arange(16))
    images = torch.from_numpy(dev.images.take(np.arange(8)))
    right = []
    for seed in range(seeds):
        method = make(make_task(backbone=backbone, seed=seed))
        losses = [np.mean([scalars["loss"] for scalars in train_epoch(method, epoch)]) for epoch in range(epochs)]
        assert losses[-1] < 0.8 * losses[0]
        with torch.no_grad():
            scores = method.backbone.eval()(images, torch.from_numpy(tokens), torch.from_numpy(lengths))
        right.append((scores.argmax(0).numpy() == dev.true).mean())
    assert np.mean(right) > 0.3


@pytest.mark.parametrize("backbone", ["vse", "saf"])
def test_mismatched_pairs_are_weighed_less(backbone: str, tiny: Dataset, make_task: MakeTask) -> None:
    true = tiny.splits["train"].true
    claimed = draw_noise("shuffle-captions", 0.4, tiny.splits["train"], 1).claimed
    method = make(make_task(claimed=claimed, backbone=backbone), batch_size=16)
    for epoch in range(12):
        list(train_epoch(method, epoch))
    scores = method.pair_scores()
    assert (scores.shape, scores.dtype) == ((48,), np.float64)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert detect(scores, claimed == true).auc > 0.7
    assert method.rematches() is None


def test_neighbourhoods_lie_between_0_and_1(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(of_images: Tensor, of_captions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend([of_images, of_captions])
        return neighbourhoods(of_images, of_captions, weights)

    monkeypatch.setattr(gsc, "neighbourhoods", spy)
    for backbone in ("vse", "saf"):
        method = make(make_task(backbone=backbone))
        batch: Batch = method.task.data.batch(np.arange(0, 16, 2))
        method._update(batch)
        for matrix in seen:
            assert matrix.min() >= 0
            assert matrix.max() <= 1 + 1e-6
        if backbone == "vse":  # an item is as close to itself as can be
            assert all(matrix.diagonal().tolist() == pytest.approx([1.0] * 8, abs=1e-5) for matrix in seen)
        seen.clear()


def test_state_holds_measures_and_averages(make_task: MakeTask) -> None:
    method = make(make_task())
    list(train_epoch(method, 0))
    again = make(make_task(seed=1))
    again.load_state_dict(method.state_dict())
    for name in ("q", "z", "q_mean", "z_mean"):
        assert getattr(method, name).std() > 0
        np.testing.assert_array_equal(getattr(again, name), getattr(method, name))
    np.testing.assert_array_equal(again.pair_scores(), method.pair_scores())


# Settings, and where it can be used.


def test_published_settings() -> None:
    config = GSC.Config()
    assert (config.batch_size, config.lr, config.decay_every, config.decay, config.clip) == (128, 2e-4, 0.25, 0.2, 2.0)
    assert (config.tau, config.gamma, config.beta) == (0.07, 0.01, 0.7)
    coco = GSC.Config(**GSC.presets["coco"])
    assert (coco.decay_every, coco.gamma) == (20 / 60, 0.05)
    assert set(GSC.presets) == {"coco", "scenes", "scenes-large"}  # cc152k has the defaults
    for preset in GSC.presets.values():
        assert GSC.Config(**preset) != config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, "tau must be above 0, found 0.0"),
        ({"gamma": -1.0}, "gamma must be at least 0, found -1.0"),
        ({"beta": 0.0}, "beta must be above 0, found 0.0"),
        ({"beta": 1.5}, "beta must be at most 1, found 1.5"),
        ({"decay": 0.0}, "decay must be above 0, found 0.0"),
        ({"decay": 2.0}, "decay must be at most 1, found 2.0"),
        ({"decay_every": 0.0}, "decay_every must be above 0, found 0.0"),
    ],
)
def test_settings_out_of_bounds(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        GSC.Config(**settings)


def plan(backbone: str) -> None:
    plan_sweep(
        Grid(
            datasets=["tiny"],
            protocols=["shuffle-captions"],
            ratios=[0.4],
            methods=["gsc"],
            backbones=[backbone],
            budgets=[Budget(0.5)],
            seeds=[0],
        )
    )


@pytest.mark.parametrize("backbone", ["scan", *BACKBONES])
def test_a_sweep_refuses_backbones_that_do_not_score_within(
    backbone: str, tiny: Dataset, register: Callable[..., None]
) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    if not backbone.startswith("scan"):
        plan(backbone)
        return
    full = "scan-t2i-lse" if backbone == "scan" else backbone
    with pytest.raises(UserError) as refusal:
        plan(backbone)
    assert f"gsc cannot train {full}" in str(refusal.value)
    assert "use saf, sgr, sgraf, vse, vse-infinity" in str(refusal.value)
