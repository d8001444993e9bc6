"""VSE-infinity and its pooling operator against one item, one dimension and one position at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.gpo import GPO, encode_positions
from ncbench.backbones.registry import build_backbone

VOCABULARY = 9


def l2(x: Tensor) -> Tensor:
    return x / (x.square().sum().sqrt() + 1e-8)


def gru_step(gru: nn.GRU, suffix: str, x: Tensor, h: Tensor) -> Tensor:
    weights = dict(gru.named_parameters())
    of_x = (weights[f"weight_ih_l0{suffix}"] @ x + weights[f"bias_ih_l0{suffix}"]).chunk(3)
    of_h = (weights[f"weight_hh_l0{suffix}"] @ h + weights[f"bias_hh_l0{suffix}"]).chunk(3)
    reset, update = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
    return (1 - update) * torch.tanh(of_x[2] + reset * of_h[2]) + update * h


def states(gru: nn.GRU, inputs: list[Tensor]) -> list[Tensor]:
    """Return the mean of both directions at every step."""
    runs = []
    for suffix, ordered in (("", inputs), ("_reverse", inputs[::-1])):
        state, run = torch.zeros(gru.hidden_size, dtype=torch.float64), []
        for x in ordered:
            state = gru_step(gru, suffix, x, state)
            run.append(state)
        runs.append(run)
    return [(forward + backward) / 2 for forward, backward in zip(runs[0], runs[1][::-1], strict=True)]


def position(number: int) -> Tensor:
    values = []
    for dim in range(32):
        angle = number / 10_000 ** ((dim - dim % 2) / 32)
        values.append(math.cos(angle) if dim % 2 else math.sin(angle))
    return torch.tensor(values, dtype=torch.float64)


def weigh(pool: GPO, count: int) -> Tensor:
    scores = [pool.score.weight[0] @ state for state in states(pool.gru, [position(k) for k in range(count)])]
    return (torch.stack(scores) / 0.1).softmax(0)


def pooled(pool: GPO, features: list[Tensor]) -> Tensor:
    weights = weigh(pool, len(features))
    columns = torch.stack(features).unbind(1)
    return torch.stack([weights @ torch.stack(sorted(column.unbind(), reverse=True)) for column in columns])


def loop(net: Backbone, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    part = net.image_encoder
    hidden = [part.expand(region) for image in images for region in image]
    if net.training:
        mean = torch.stack(hidden).mean(0)
        variance = (torch.stack(hidden) - mean).square().mean(0)
    else:
        mean, variance = part.norm.running_mean, part.norm.running_var
    normal = [(h - mean) / (variance + 1e-5).sqrt() * part.norm.weight + part.norm.bias for h in hidden]
    mapped = [part.contract(h.clamp(min=0)) for h in normal]
    mapped = [out + part.project(region) for out, region in zip(mapped, images.flatten(0, 1), strict=True)]
    R = images.shape[1]
    seen = [l2(pooled(net.image_pool, mapped[first : first + R])) for first in range(0, len(mapped), R)]
    said = []
    for caption, length in zip(tokens, lengths.tolist(), strict=True):
        words = [net.caption_encoder.embedding.weight[word] for word in caption[:length]]
        said.append(l2(pooled(net.caption_pool, states(net.caption_encoder.gru, words))))
    return torch.stack([torch.stack([image @ caption for caption in said]) for image in seen])


def make(n_regions: int) -> Backbone:
    torch.manual_seed(0)
    net = build_backbone("vse-infinity", Sizes(5, n_regions, VOCABULARY, embed=6, word=3)).double()
    norm = net.image_encoder.norm
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.4, 1.6)
    nn.init.uniform_(net.image_encoder.project.bias, -0.5, 0.5)
    with torch.no_grad():
        net.caption_encoder.embedding.weight.mul_(20)
    return net


def data(n_images: int, lengths: list[int], n_regions: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_regions)
    images = torch.randn(n_images, n_regions, 5, generator=generator, dtype=torch.float64)
    return (
        images,
        torch.randint(0, VOCABULARY, (len(lengths), max(lengths)), generator=generator),
        torch.tensor(lengths),
    )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("n_images", "lengths", "n_regions"),
    [
        pytest.param(3, [4, 1, 7, 4, 2], 3, id="three-regions"),
        pytest.param(3, [2, 5], 1, id="one-region"),
        pytest.param(2, [6], 36, id="36-regions-one-caption"),
    ],
)
def test_item_by_item(training: bool, n_images: int, lengths: list[int], n_regions: int) -> None:
    net, batch = make(n_regions).train(training), data(n_images, lengths, n_regions)
    expected = loop(net, *batch)
    found = net(*batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    named = dict(net.named_parameters())
    ours = torch.autograd.grad((found * direction).sum(), list(named.values()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(named.values()))
    for key, mine, other in zip(named, ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


def test_worked_example_of_pooling() -> None:
    """Scores (0.2, 0.1, -0.1) by position; a caption of two words uses the first two."""
    pool = GPO()
    pool.score.forward = lambda states: torch.tensor([0.2, 0.1, -0.1]).expand(len(states), 3)[..., None]
    weights = pool.weights(torch.tensor([3]))
    torch.testing.assert_close(weights, torch.tensor([[0.705385, 0.259496, 0.035119]]), rtol=0, atol=1e-6)
    features = torch.tensor([[0.3, -0.2], [0.9, 0.1], [-0.5, 0.4]])
    batch = torch.stack([features, features.index_fill(0, torch.tensor([2]), 0.0)])
    found = pool(batch, torch.tensor([3, 2]))
    torch.testing.assert_close(found[0], torch.tensor([0.695135, 0.301080]), rtol=0, atol=1e-6)
    first = 1 / (1 + math.exp(-1))  # of the two that exist
    shorter = torch.tensor([0.9 * first + 0.3 * (1 - first), 0.1 * first - 0.2 * (1 - first)])
    torch.testing.assert_close(found[1], shorter)


def test_positions() -> None:
    found = encode_positions(40, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(found, torch.stack([position(number) for number in range(40)]))


def test_weights_depend_on_the_length_only_and_any_length_will_do() -> None:
    torch.manual_seed(0)
    pool = GPO().double()
    lengths = torch.tensor([5, 1, 150, 5, 2])
    weights = pool.weights(lengths)
    assert weights.shape == (5, 150)
    torch.testing.assert_close(weights.sum(1), torch.ones(5, dtype=torch.float64))
    for row, length in zip(weights, lengths.tolist(), strict=True):
        assert not row[length:].any()
        torch.testing.assert_close(row[:length], weigh(pool, length))


def test_equal_scores_are_the_mean_and_steep_ones_the_maximum() -> None:
    features = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)) - 3  # padding is not a feature of 0
    pool, lengths = GPO(), torch.tensor([4, 3])
    nn.init.zeros_(pool.score.weight)
    expected = torch.stack([features[0].mean(0), features[1, :3].mean(0)])
    torch.testing.assert_close(pool(features, lengths), expected)
    pool.score.forward = lambda states: -100.0 * torch.arange(states.shape[1]).expand(len(states), -1)[..., None]
    torch.testing.assert_close(pool(features, lengths), torch.stack([features[0].amax(0), features[1, :3].amax(0)]))


def test_weights_are_made_once_per_distinct_length(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = make(3), []
    for pool in (net.image_pool, net.caption_pool):
        weights = pool.weights
        monkeypatch.setattr(
            pool, "weights", lambda lengths, weights=weights: (seen.append(lengths.tolist()), weights(lengths))[1]
        )
    net(*data(4, [4, 2, 4, 4, 2], 3))
    assert seen == [[3], [2, 4]]


def test_zero_regions_have_finite_scores_and_gradients() -> None:
    torch.manual_seed(0)
    net = build_backbone("vse-infinity", Sizes(5, 3, VOCABULARY, embed=6, word=3))
    images = torch.zeros(2, 3, 5, requires_grad=True)
    scores = net(images, torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    assert scores.isfinite().all()
    scores.sum().backward()
    assert images.grad.isfinite().all()
    for key, weight in net.named_parameters():
        assert weight.grad.isfinite().all(), key
