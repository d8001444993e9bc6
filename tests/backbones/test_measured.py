"""Costs that are measured: those of formulas where there are some, of frozen layers, and on every way to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from ncbench import UserError
from ncbench.backbones import Backbone, Encoded, Sizes, VectorBackbone, backbone_class
from ncbench.backbones.measured import Measured
from ncbench.data.dataset import Captions
from ncbench.runtime.products import counting
from ncbench.training.cost import baseline_epoch_work

SIZES = Sizes(96, 12, 20, embed=128, similarity=64, word=64, dropout=0.0)
COUNTED: list[int] = []


class Plain(VectorBackbone):
    """Two layers a side, of which the first may be frozen; attention over words; no formulas."""

    name = "plain"
    frozen = False

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.tower = nn.Linear(sizes.image_dim, 32).requires_grad_(not self.frozen)
        self.image = nn.Linear(32, sizes.embed)
        self.words = nn.Embedding(sizes.vocabulary, sizes.word).requires_grad_(not self.frozen)
        self.caption = nn.Linear(sizes.word, sizes.embed)

    def _encode_images(self, images: Tensor) -> Encoded:
        return Encoded((normalize(self.image(self.tower(images)).mean(1), dim=-1),))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        words = self.words(tokens)
        attended = scaled_dot_product_attention(words, words, words)
        return Encoded((normalize(self.caption(attended[:, 0]), dim=-1),))


class Frozen(Plain):
    frozen = True


class LooksAtValues(Plain):
    """Cannot be measured without values."""

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        COUNTED.append(int(tokens.max()))
        return super()._encode_captions(tokens, lengths)


class NeedsWeights(Plain):
    """Cannot be built without values."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        float(self.image.weight.detach().sum())


IMAGE = 2 * 12 * (96 * 32 + 32 * 128)
FROZEN_IMAGE = 2 * 12 * 96 * 32


def caption(length: int) -> int:
    return 2 * length * length * 64 * 2 + 2 * 64 * 128


@pytest.mark.parametrize("name", ["sgr", "saf", "scan-t2i-lse", "scan-i2t-mean", "vse"])
def test_what_is_measured_is_what_formulas_say(name: str) -> None:
    kind = backbone_class(name)
    sizes = Sizes(24, 12, 20, embed=16, similarity=8, word=8, dropout=0.0)
    net, found, reported = kind(sizes), Measured(kind, sizes), 0 if name == "vse" else 9
    assert found.image(12).flops == net.image_work(12)
    assert 0.9 * net.caption_work(9) < found.caption(9).flops <= net.caption_work(9)  # a GRU begins with zeros
    assert (found.image(12).frozen, found.caption(9).frozen) == (0, 0)
    costs = [(found.pair(12, reported), net.pair_work(12, reported))]
    if "within" in kind.ABILITIES:
        lengths = (9, 7) if reported else (0, 0)
        costs.append((found.image_pair(12), net.image_pair_work(12)))
        costs.append((found.caption_pair(*lengths), net.caption_pair_work(*lengths)))
    for cost, formula in costs:
        assert formula <= cost.flops <= 1.02 * formula  # what a pass computes once, formulas leave out


@pytest.mark.parametrize("kind", [Plain, LooksAtValues, NeedsWeights])
def test_by_hand(kind: type[Plain]) -> None:
    net = kind(SIZES)
    assert (net.image_work(12), net.caption_work(9), net.caption_work(3)) == (IMAGE, caption(9), caption(3))
    assert net.pair_work(12, 9) == 2 * 128
    assert (net.frozen_image_work(12), net.frozen_caption_work(9)) == (0, 0)


def test_frozen_layers_have_no_backward_pass() -> None:
    net, charged = Frozen(SIZES), list[int]()
    net.on_work = lambda flops, *_, **__: charged.append(flops)
    assert (net.image_work(12), net.frozen_image_work(12)) == (IMAGE, FROZEN_IMAGE)
    assert net.frozen_caption_work(9) == 2 * 9 * 9 * 64 * 2
    net.encode_images(torch.zeros(5, 12, 96))
    net.encode_captions(torch.ones(4, 9, dtype=torch.int64), torch.tensor([9, 9, 9, 3]))
    trained = IMAGE - FROZEN_IMAGE
    assert charged == [5 * (FROZEN_IMAGE + 3 * trained), 3 * (caption(9) + 2 * 16384) + caption(3) + 2 * 16384]
    with torch.no_grad():
        net.encode_images(torch.zeros(5, 12, 96))
    assert charged[2] == 5 * IMAGE
    epoch = baseline_epoch_work(net, Captions(["a"] * 3, [[1] * 9] * 3), 2)
    each = FROZEN_IMAGE + 3 * trained + caption(9) + 2 * 16384
    assert epoch == 3 * each + 3 * 2 * 128 * (2 * 2 + 1 * 1)


def test_formulas_without_a_word_on_frozen_layers() -> None:
    """What a formula counts is trained, unless another says how much is not."""

    class Stated(Frozen):
        def image_work(self, n_regions: int) -> int:
            return 7

    net = Stated(SIZES)
    assert (net.image_work(12), net.frozen_image_work(12)) == (7, 0)
    assert net.image_bytes(12) == 4 * 12 * (2 * 128 + 12)
    assert Plain(SIZES).image_bytes(12) == 4 * 128


def test_measuring_draws_nothing_and_no_other_counter_sees_it() -> None:
    net = NeedsWeights(replace(SIZES, embed=40))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert counting(lambda: net.image_work(12))[1] == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pass_that_fails() -> None:
    class Broken(Plain):
        def _encode_images(self, images: Tensor) -> Encoded:
            raise RuntimeError("no images today")

    with pytest.raises(UserError, match=r"backbone 'plain': the FLOPs of a pass \(image 12\) cannot be measured: Run"):
        Broken(SIZES).image_work(12)


def test_within_needs_the_ability() -> None:
    class Without(Plain):
        ABILITIES = frozenset()
        image_pair_work, caption_pair_work = Backbone.image_pair_work, Backbone.caption_pair_work

    calls: list[Callable[[Any], int]] = [lambda net: net.image_pair_work(3), lambda net: net.caption_pair_work(3, 3)]
    for call in calls:
        with pytest.raises(TypeError, match="Without does not score"):
            call(Without(SIZES))
