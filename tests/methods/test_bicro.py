"""BiCro: warm-up on easy pairs, the Beta mixture, consistency with anchors, labels and steps.

What it shares with NCR is tested there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from epochs import train_epoch
from scipy import stats
from set_up import set_up
from similarities import EXAMPLE
from torch import Tensor

from ncbench import Task, losses
from ncbench_methods._coteaching import hinge_max_by_entry
from ncbench_methods.bicro import (
    BiCro,
    beta_posterior,
    clean_labels,
    consistency,
    cosines,
    easiest_loss,
    fit_betas,
    one_vector,
    ratio,
    settle,
)

MakeTask = Callable[..., Task]

FOUND = np.array([0, 0.03, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.45, 0.55, 0.62, 0.70, 0.80, 1])
IMAGES = torch.tensor([[1, 0, 0], [0.9, 0.1, 0], [0.1, 1, 0], [0, 0.2, 1], [0.5, 0.5, 0.1]], dtype=torch.float64)
CAPTIONS = torch.tensor([[1, 0.1, 0], [0.2, 1, 0.1], [0, 1, 0.2], [0.1, 0.1, 1], [0.6, 0.3, 0.2]], dtype=torch.float64)
ANCHORS, REST = torch.tensor([0, 3]), torch.tensor([1, 4, 2])
Q = torch.tensor([1, 0.293110, 0.669959, 1, 0.781813], dtype=torch.float64)

make = partial(set_up, BiCro, warmup=0.0, noisy_after=0.0)


def close(found: Tensor, expected: list[float] | list[list[float]] | Tensor) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=1e-6, rtol=0)


# Warm-up.


@pytest.mark.parametrize(("share", "expected"), [(0.01, 0.016667), (0.34, 0.016667), (0.67, 0.166667), (1, 0.333333)])
def test_warm_up_sums_the_smallest_losses(share: float, expected: float) -> None:
    assert easiest_loss(EXAMPLE, 0.2, share).item() == pytest.approx(expected, abs=1e-6)


def test_only_the_easiest_pairs_move_in_warm_up() -> None:
    scores = EXAMPLE.clone().requires_grad_()
    easiest_loss(scores, 0.2, 0.34).backward()  # one of three: the first, against a negative in its row
    close(scores.grad, [[-1 / 3, 1 / 3, 0], [0, 0, 0], [0, 0, 0]])


def test_published_share_of_a_published_batch() -> None:
    scores = torch.rand(128, 128, generator=torch.Generator().manual_seed(0))
    expected = losses.pair_losses(scores, 0.2).sort().values[:38].sum()
    torch.testing.assert_close(easiest_loss(scores, 0.2, BiCro.Config().easiest), expected)


# The mixture.


@pytest.mark.parametrize(
    ("iterations", "a", "b", "weight"),
    [
        (0, [1, 2], [2, 1], [0.5, 0.5]),
        (1, [0.441727, 1.326723], [1.889051, 0.738364], [0.653571, 0.346429]),
        (10, [0.440827, 0.973052], [1.720037, 0.633947], [0.645275, 0.354725]),
    ],
)
def test_worked_example_of_the_mixture(iterations: int, a: list[float], b: list[float], weight: list[float]) -> None:
    found = fit_betas(FOUND, iterations)
    for values, expected in zip(found, (a, b, weight), strict=False):
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_worked_example_of_posteriors() -> None:
    expected = [0.995704, 0.915063, 0.889198, 0.857854, 0.839558, 0.822518, 0.798519]
    expected += [0.760989, 0.579218, 0.498704, 0.437189, 0.360335, 0.252495, 0.000078]
    np.testing.assert_allclose(beta_posterior(FOUND), expected, atol=1e-6)


def test_mixture_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.beta(2, 9, 60), rng.beta(6, 3, 30)])
    x = (x - x.min()) / (x.max() - x.min())
    shapes, weights = [(1.0, 2.0), (2.0, 1.0)], [0.5, 0.5]
    inner = np.clip(x, 1e-4, 1 - 1e-4)
    for _ in range(10):
        parts = [w * stats.beta.pdf(inner, *shape) for w, shape in zip(weights, shapes, strict=True)]
        belief = [part / sum(parts) for part in parts]
        shapes, weights = [], [share.mean() for share in belief]
        for share in belief:
            mean = np.average(inner, weights=share)
            variance = np.average((inner - mean) ** 2, weights=share)
            a = mean * (mean * (1 - mean) / variance - 1)
            shapes.append((a, a * (1 - mean) / mean))
    parts = [w * stats.beta.pdf(inner, *shape) for w, shape in zip(weights, shapes, strict=True)]
    np.testing.assert_allclose(beta_posterior(x), parts[0] / sum(parts), rtol=1e-6, atol=1e-9)


def test_clean_is_the_component_of_the_smaller_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = beta_posterior(FOUND)
    a, b, weight, posterior = fit_betas(FOUND)
    swapped = (a[::-1], b[::-1], weight[::-1], posterior[:, ::-1])
    monkeypatch.setattr("ncbench_methods.bicro.fit_betas", lambda x: swapped)
    assert np.array_equal(beta_posterior(FOUND), expected)


@pytest.mark.parametrize(
    "x", [np.array([0.0, 1]), np.array([0.0] * 30 + [1]), np.array([0.0] + [1] * 30), np.array([0.0, 1e-9, 1])]
)
def test_mixtures_of_few_values(x: np.ndarray) -> None:
    found = beta_posterior(x)
    assert np.isfinite(found).all()
    assert found[0] > 0.5 > found[-1]


def test_a_loss_far_from_both_groups_is_of_neither() -> None:
    x = np.concatenate([np.linspace(0.19, 0.21, 2000), np.linspace(0.39, 0.41, 2000), [0, 1]])
    found = beta_posterior(x)
    assert np.isfinite(found).all()
    assert found[-1] == 0.5  # both densities lie below what counts


def test_equal_losses_are_clean() -> None:
    assert beta_posterior(np.zeros(5)).tolist() == [1] * 5


# Consistency and labels.


def test_worked_example_of_cosines() -> None:
    close(
        cosines(IMAGES, IMAGES[ANCHORS]),
        [[1, 0], [0.993884, 0.021657], [0.099504, 0.195143], [0, 1], [0.700140, 0.274618]],
    )
    close(
        cosines(CAPTIONS, CAPTIONS[ANCHORS]),
        [[1, 0.108376], [0.291317, 0.212583], [0.097571, 0.291276], [0.108376, 1], [0.895533, 0.410204]],
    )


def test_worked_example_of_consistency() -> None:
    seen, said = cosines(IMAGES, IMAGES[ANCHORS]), cosines(CAPTIONS, CAPTIONS[ANCHORS])
    close(ratio(seen, said), Q)
    close(ratio(said, seen), Q)
    close(consistency(IMAGES, CAPTIONS, IMAGES[ANCHORS], CAPTIONS[ANCHORS]), Q)


def test_worked_example_of_clean_labels() -> None:
    close(clean_labels(Q, REST, 0.5, released=False), [1, 0.646555, 0.834979, 1, 0.890907])
    close(clean_labels(Q, REST, 0.5, released=True), [1, 1, 0.834979, 1, 0.646555])


def test_worked_example_of_noisy_labels() -> None:
    labels = settle(Q, 0.5)
    close(labels, [1, 0, 0.669959, 1, 0.781813])
    close(losses.soft_margin(labels, 0.2), [0.2, 0, 0.081709, 0.2, 0.112240])


def test_worked_example_of_the_direction_of_margins() -> None:
    margins = losses.soft_margin(torch.tensor([1, 0.860870, 0.686957], dtype=torch.float64), 0.2)
    columns = 0.0 + 0.089086 + 0.235857
    assert losses.hinge_max(EXAMPLE, margins).item() == pytest.approx(0.05 + 0.189086 + 0.035857 + columns, abs=2e-6)
    released = hinge_max_by_entry(EXAMPLE, margins[None]).item()
    assert released == pytest.approx(0 + 0.135857 + 0.089086 + columns, abs=2e-6)


def test_ratios_of_any_sign() -> None:
    leading = torch.tensor([[0.5, 0.2], [0.5, 0.2], [0.1, 0.4], [0.5, 0.1], [0, 0], [-0.1, -0.2]], dtype=torch.float64)
    following = torch.tensor([[0.8, 1], [0.4, 0], [1, -0.1], [0, 1], [0, 0], [-0.4, 1]], dtype=torch.float64)
    close(ratio(leading, following), [0.625, 0.8, -4, 0, 0, 0.25])


def test_labels_are_thrown_away_up_to_a_limit_and_stay_in_range() -> None:
    values = torch.tensor([-3, 0.2, 0.5, 0.51, 1, 1.2], dtype=torch.float64)
    close(settle(values, 0.5), [0, 0, 0, 0.51, 1, 1])
    close(settle(values, 0.1), [0, 0.2, 0.5, 0.51, 1, 1])


@pytest.mark.parametrize("backbone", ["vse", "vse-infinity", "sgr", "saf", "scan", "scan-i2t-mean"])
def test_one_vector_points_where_the_mean_of_true_words_and_regions_does(backbone: str, make_task: MakeTask) -> None:
    task = make_task(backbone=backbone)
    network = task.new_backbone().eval()
    batch = task.data.batch(np.arange(6))
    assert len(set(batch.lengths.tolist())) > 1
    with torch.no_grad():
        images = network.encode_images(batch.images)
        found = one_vector(network.encode_captions(batch.tokens, batch.lengths).parts[0])
        for row in range(6):
            length = int(batch.lengths[row])
            alone = network.encode_captions(batch.tokens[row : row + 1, :length], batch.lengths[row : row + 1])
            words = alone.parts[0][0]
            mean = words if words.ndim == 1 else words.mean(0)
            assert torch.cosine_similarity(found[row], mean, dim=0).item() == pytest.approx(1, abs=1e-5)
            regions = images.parts[0][row]
            mean = regions if regions.ndim == 1 else regions.mean(0)
            ours = one_vector(images.parts[0])[row]
            assert torch.cosine_similarity(ours, mean, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert found.shape == (6, 16)


def naive_labels(method: BiCro, judge: int, clean: Any, noisy: Any, n_anchors: int) -> tuple[list[float], list[float]]:
    """Labels of both batches, pair by pair, of a VSE network (one vector for each image or caption)."""
    network, n = method.networks[judge].eval(), len(clean)
    with torch.no_grad():
        encoded = [
            (
                network.encode_images(batch.images).parts[0].double(),
                network.encode_captions(batch.tokens, batch.lengths).parts[0].double(),
            )
            for batch in (clean, noisy)
        ]
    scores = encoded[0][0] @ encoded[0][1].T
    losses_of = [
        sum(
            max(0.0, 0.2 + (scores[k, j] - scores[k, k]).item()) + max(0.0, 0.2 + (scores[j, k] - scores[k, k]).item())
            for j in range(n)
            if j != k
        )
        for k in range(n)
    ]
    anchors = np.argsort(losses_of, kind="stable")[:n_anchors]
    found = []
    for images, captions in encoded:
        labels = []
        for seen, said in zip(images, captions, strict=True):
            near_seen = [(seen @ encoded[0][0][anchor]).item() for anchor in anchors]
            near_said = [(said @ encoded[0][1][anchor]).item() for anchor in anchors]
            parts = []
            for first, second in ((near_seen, near_said), (near_said, near_seen)):
                best = max(range(n_anchors), key=lambda k: first[k])
                t, v = first[best], second[best]
                parts.append(t / v if t / v < 1 else v / t)
            labels.append(sum(parts) / 2)
        found.append(labels)
    of_clean = [1.0 if k in anchors else 0.5 + found[0][k] / 2 for k in range(n)]
    reject = method.config.reject
    return [y if y > reject else 0.0 for y in of_clean], [y if y > reject else 0.0 for y in found[1]]


def test_labels_are_those_of_a_naive_loop_and_steps_take_the_noisy_batch_first(make_task: MakeTask) -> None:
    method = make(make_task(), surest=0.2, reject=0.8)
    for _ in train_epoch(method, 0):  # so that networks are not fresh
        pass
    clean, noisy = method.task.data.batch(np.arange(0, 32, 2)), method.task.data.batch(np.arange(1, 24, 2))
    of_clean, of_noisy = naive_labels(method, 1, clean, noisy, n_anchors=16 // 5 + 1)
    assert 0 < sum(y == 0 for y in of_noisy) < 12
    assert 0 < sum(y == 0 for y in of_clean) < 16 - 4
    stepped: list[tuple[Any, Tensor]] = []
    step = method._step

    def spy(learner: int, batch: Any, labels: Tensor) -> float:
        assert learner == 0
        stepped.append((batch, labels))
        return step(learner, batch, labels)

    method._step = spy
    scalars = method._update(0, clean, np.ones(16), noisy)
    (first, noisy_labels), (second, labels) = stepped
    assert (first, second) == (noisy, clean)
    np.testing.assert_allclose(labels, of_clean, atol=1e-5)
    np.testing.assert_allclose(noisy_labels, of_noisy, atol=1e-5)
    assert scalars["loss"] == pytest.approx(scalars["loss_clean"] + scalars["loss_noisy"])
    assert min(scalars.values()) > 0


def test_three_updates_are_those_of_a_plain_loop(make_task: MakeTask) -> None:
    settings: dict[str, Any] = {"surest": 0.2, "reject": 0.6, "clip": 0.5, "decay_every": 10.0, "lr": 1e-2}
    method, plain = (make(make_task(4.0), **settings) for _ in range(2))  # of `plain`, only the networks are used
    rng = np.random.default_rng(2)
    steps = [(learner, *rng.permutation(48)[:32].reshape(2, 16)) for learner in (0, 1, 0)]
    for learner, *pairs in steps:
        clean, noisy = (method.task.data.batch(numbers) for numbers in pairs)
        method._update(learner, clean, np.ones(16), noisy)

    adams = [torch.optim.Adam(network.parameters(), 1e-2) for network in plain.networks]
    for learner, *pairs in steps:
        clean, noisy = (plain.task.data.batch(numbers) for numbers in pairs)
        of_clean, of_noisy = naive_labels(plain, 1 - learner, clean, noisy, n_anchors=16 // 5 + 1)
        network = plain.networks[learner].train()
        for batch, labels in ((noisy, of_noisy), (clean, of_clean)):
            scores = network(*batch.inputs).double()
            loss = torch.zeros((), dtype=torch.float64)
            for k in range(16):
                margin = 0.2 * (10 ** max(0.0, min(1.0, labels[k])) - 1) / 9
                for line in (scores[k], scores[:, k]):
                    loss = loss + (margin + torch.cat([line[:k], line[k + 1 :]]) - scores[k, k]).max().clamp(min=0)
            adams[learner].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            adams[learner].step()
    fresh = make(make_task(4.0), **settings)
    for ours, theirs, before in zip(method.networks, plain.networks, fresh.networks, strict=True):
        for (key, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
            assert not torch.equal(weight, before.state_dict()[key])


def test_released_labels_reach_the_losses_of_a_step(make_task: MakeTask) -> None:
    method = make(make_task(), labels="released", surest=0.2)
    clean, noisy = method.task.data.batch(np.arange(0, 32, 2)), method.task.data.batch(np.arange(1, 24, 2))
    correct = make(make_task(), surest=0.2)
    labels, noisy_labels = method._labels(1, clean, noisy)
    own, noisy_own = correct._labels(1, clean, noisy)
    assert (labels.shape, noisy_labels.shape) == ((1, 16), (1, 12))
    assert torch.equal(noisy_labels[0], noisy_own)
    assert (labels[0] != own).any()
    assert torch.equal(method._labels(1, clean, None)[0], labels)

    with torch.no_grad():
        scores = method.networks[0].train()(clean.images, clean.tokens, clean.lengths)
    margins = 0.2 * (10 ** labels[0] - 1) / 9
    expected = 0.0
    for k in range(16):
        others = [j for j in range(16) if j != k]
        expected += max(max(0.0, (margins[j] + scores[k, j] - scores[k, k]).item()) for j in others)
        expected += max(max(0.0, (margins[k] + scores[i, k] - scores[k, k]).item()) for i in others)
    assert method._step(0, clean, labels) == pytest.approx(expected, rel=1e-5)


def test_an_epoch_costs_what_is_needed(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """In passes over the pairs, forward 1, with backward 3: scans 2; per network 4 on clean pairs, 3 to 4 on noisy."""
    spent = []
    for noisy_after in (1.0, 0.0):
        method = make(make_task(), noisy_after=noisy_after)
        half = np.tile([0.9, 0.1], 24)  # one caption of every image
        monkeypatch.setattr(method, "_posterior", lambda x, half=half: half)
        list(train_epoch(method, 0))
        spent.append(method.task.budget.progress * 100 * 3)
    assert spent[0] == pytest.approx(2 + 2 * 4 / 2, rel=0.03)
    assert 2 + 2 * (4 + 3) / 2 < spent[1] < 1.03 * (2 + 2 * (4 + 4) / 2)


def test_published_defaults() -> None:
    config = BiCro.Config()
    assert (config.batch_size, config.lr, config.margin, config.clip) == (128, 2e-4, 0.2, 2.0)
    assert (config.warmup, config.decay_every, config.noisy_after) == (10 / 50, 30 / 50, 0.5)
    assert (config.easiest, config.reject, config.clean_above, config.labels) == (0.3, 0.5, 0.5, "correct")
    assert int(config.surest * 128) + 1 == 13
    assert {"scenes", "scenes-large"} <= set(BiCro.presets)
