"""Heads of methods, pairs scored alone, and second derivatives."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from reports import Reported
from torch import Tensor, nn
from torch.func import functional_call

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.head import head_width, pair_head
from ncbench.backbones.registry import BACKBONES, backbone_class, build_backbone
from ncbench.budget import BudgetSpent

ABLE = ["saf", "sgr", "vse", "vse-infinity", "vse-mlp"]
LENGTHS = [4, 1, 3, 4]


def make(name: str, head: int = 0, dropout: float = 0.0) -> Backbone:
    torch.manual_seed(0)
    sizes = Sizes(image_dim=7, n_regions=3, vocabulary=13, embed=6, similarity=5, word=3, dropout=dropout, head=head)
    return build_backbone(name, sizes).double()


def data(lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(13, (len(lengths), max(lengths)), generator=generator)
    images = torch.randn(len(lengths), 3, 7, generator=generator, dtype=torch.float64)
    return images, tokens, torch.tensor(lengths)


def test_who_can() -> None:
    assert [name for name in sorted(BACKBONES) if "head" in backbone_class(name).ABILITIES] == ABLE
    with pytest.raises(ValueError, match=r"^TextToImageLSE has no pair vectors for a head"):
        make("scan", head=2)


def test_a_head_is_two_layers_with_a_relu_between() -> None:
    head, vectors = pair_head(5, 3), torch.randn(7, 2, 5)
    first, _, last = head.children()
    assert (first.weight.shape, last.weight.shape) == ((3, 5), (1, 3))
    expected = (vectors @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    torch.testing.assert_close(head(vectors), expected)
    assert isinstance(pair_head(5, 0), nn.Linear)


@pytest.mark.parametrize("name", ABLE)
def test_the_width_of_a_head_is_known_by_its_weights(name: str) -> None:
    assert head_width(make(name, 9).state_dict()) == 9
    assert head_width(make(name).state_dict()) == 0
    assert head_width({"head.0.weight": torch.tensor(1.0)}) == 0


@pytest.mark.parametrize("name", ["vse", "vse-infinity"])
def test_the_vector_of_a_pair_is_a_product_of_unit_vectors(name: str) -> None:
    net, plain = make(name, 4), make(name)
    plain.load_state_dict({key: w for key, w in net.state_dict().items() if not key.startswith("head.")})
    scores = net(*data())
    seen, said = net.encode_images(data()[0]).parts[0], net.encode_captions(*data()[1:]).parts[0]
    for i, image in enumerate(seen):
        for c, caption in enumerate(said):
            torch.testing.assert_close(scores[i, c], net.head(image * caption)[0].sigmoid())
    assert (net.IN_UNIT_INTERVAL, plain.IN_UNIT_INTERVAL) == (True, False)
    torch.testing.assert_close(plain(*data()), seen @ said.T)
    assert plain.head is None


@pytest.mark.parametrize("name", ["saf", "sgr"])
def test_a_head_takes_the_place_of_the_last_layer(name: str) -> None:
    net, plain = make(name, 2), make(name)
    shared = {key: w for key, w in net.state_dict().items() if not key.startswith("head.")}
    plain.load_state_dict({**shared, "head.weight": plain.head.weight, "head.bias": plain.head.bias})
    with torch.no_grad():  # relu(x) - relu(-x) = x
        net.head[0].weight.copy_(torch.cat([plain.head.weight, -plain.head.weight]))
        net.head[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(net(*data()), plain(*data()))


# Pairs alone


@pytest.mark.parametrize("head", [0, 4])
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_each_is_the_diagonal_of_all(name: str, head: int) -> None:
    if head and name not in ABLE:
        return
    net, (images, tokens, lengths) = make(name, head).eval(), data()
    seen, said = net.encode_images(images), net.encode_captions(tokens, lengths)
    expected = net.score(seen, said).diagonal()
    torch.testing.assert_close(net.score_each(seen, said), expected)
    torch.testing.assert_close(net(images, tokens, lengths, each=True), expected)
    some = torch.tensor([2, 1])  # padded beyond the longest of them
    torch.testing.assert_close(net.score_each(seen.take(some), said.take(some)), expected[some])


@pytest.mark.parametrize("name", ABLE)
def test_each_is_one_image_and_one_caption_at_a_time_in_training_too(name: str) -> None:
    net, (images, tokens, lengths) = make(name, 4).train(), data()
    seen, said = net.encode_images(images), net.encode_captions(tokens, lengths)
    loop = copy.deepcopy(net)
    expected = Backbone._score_each(loop, seen, said)
    torch.testing.assert_close(net.score_each(seen, said), expected)
    for (key, ours), theirs in zip(net.named_buffers(), loop.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=key)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_each_reports_so_many_pairs_before_it_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (images, tokens, lengths) = make(name), data()
    seen, said = net.encode_images(images), net.encode_captions(tokens, lengths)
    net.on_work = reported = Reported()
    net.score_each(seen, said)
    with torch.no_grad():
        net.score_each(seen, said)
    once = sum(net.pair_work(3, length) for length in LENGTHS)
    assert reported == [3 * once, once]

    def refuse(flops: int, pairs: int = 0, samples: int = 0) -> None:
        raise BudgetSpent

    net.on_work = refuse
    monkeypatch.setattr(net, "_score_each", lambda *_: pytest.fail("has been done"))
    with pytest.raises(BudgetSpent):
        net.score_each(seen, said)


def test_each_needs_as_many_images_as_captions() -> None:
    net, (images, tokens, lengths) = make("vse"), data()
    with pytest.raises(ValueError, match="found 3 images and 4 captions"):
        net(images[:3], tokens, lengths, each=True)


# Second derivatives


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives_of_each_are_slopes_of_the_gradient(name: str, training: bool) -> None:
    net = make(name, 2).train(training)
    weights = {key: weight.detach().requires_grad_() for key, weight in net.named_parameters()}
    buffers = {key: buffer.clone() for key, buffer in net.named_buffers()}
    direction = {key: torch.randn_like(weight) for key, weight in weights.items()}

    def gradients(distance: float, twice: bool = False) -> list[Tensor]:
        """Return the gradients of the weights, moved so far along the direction."""
        moved = {key: weight + distance * direction[key] for key, weight in weights.items()}
        scores = functional_call(net, {**moved, **buffers}, data([3, 1, 3]), {"each": True})
        return list(
            torch.autograd.grad(
                scores.square().sum(), list(weights.values()), create_graph=twice, materialize_grads=True
            )
        )

    pairs = zip(gradients(1e-6), gradients(-1e-6), strict=True)
    expected = [(after - before) / 2e-6 for after, before in pairs]
    slope = sum((g * d).sum() for g, d in zip(gradients(0, twice=True), direction.values(), strict=True))
    found = torch.autograd.grad(slope, list(weights.values()), materialize_grads=True)
    largest = max(gradient.abs().max().item() for gradient in expected)
    assert largest > 0
    for key, ours, theirs in zip(weights, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * largest, msg=lambda m, key=key: f"{key}: {m}")


def reports(net: Backbone, call: Callable[[], object]) -> list[int]:
    net.on_work = seen = Reported()
    call()
    return seen


@pytest.mark.parametrize("name", ABLE)
def test_functional_calls_report_like_others_and_more_if_they_are_to_be_differentiated_twice(name: str) -> None:
    net = make(name, 4)
    weights = {key: weight.detach().requires_grad_() for key, weight in net.named_parameters()}
    fixed = {key: weight.detach() for key, weight in net.named_parameters()}
    plain = reports(net, lambda: net(*data()))
    assert reports(net, lambda: functional_call(net, weights, data())) == plain
    derived = {key: 2 * weight for key, weight in weights.items()}
    assert reports(net, lambda: functional_call(net, derived, data())) == plain
    once = [work // 3 for work in plain]
    assert reports(net, lambda: functional_call(net, fixed, data())) == once

    def twice() -> None:
        with net.differentiated_twice():
            functional_call(net, weights, data())

    assert reports(net, twice) == [5 * work for work in once]
    assert reports(net, lambda: net(*data())) == plain


def test_work_is_reported_as_before_after_a_refusal() -> None:
    net = make("vse")

    def refuse(flops: int, pairs: int = 0, samples: int = 0) -> None:
        raise BudgetSpent

    net.on_work = refuse
    with pytest.raises(BudgetSpent), net.differentiated_twice():
        net(*data())
    assert reports(net, lambda: net.encode_images(data()[0])) == [3 * 4 * net.image_work(3)]
