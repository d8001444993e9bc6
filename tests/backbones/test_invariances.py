"""Invariances of every backbone: padding, order and other items change nothing; scores stay in range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.graph import PerCaptionBatchNorm
from ncbench.backbones.registry import BACKBONES, build_backbone

NAMES = pytest.mark.parametrize("name", sorted(BACKBONES))
VOCABULARY = 13
LENGTHS = [5, 2, 7, 1, 3]
DROPPING = ("saf", "sgr", "sgraf")  # the others are published without dropout


def make(name: str, dropout: float = 0.0) -> Backbone:
    torch.manual_seed(0)
    sizes = Sizes(7, n_regions=4, vocabulary=VOCABULARY, embed=6, similarity=5, word=3, dropout=dropout)
    net = build_backbone(name, sizes).double()
    for weight in net.parameters():  # zero biases would hide where they enter
        if weight.ndim == 1:
            nn.init.uniform_(weight, 0.2, 0.6)
    for module in net.modules():
        if isinstance(module, nn.Embedding):  # larger words: a fresh embedding makes all captions alike
            nn.init.uniform_(module.weight, -2, 2)
        if isinstance(module, nn.BatchNorm1d | PerCaptionBatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return net


def data(n_images: int, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    images = torch.randn(n_images, 4, 7, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    return images, tokens, torch.tensor(lengths)


@NAMES
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_padding_changes_nothing(name: str, training: bool) -> None:
    short, long = make(name).train(training), make(name).train(training)
    images, tokens, lengths = data(4, LENGTHS)
    padded = functional.pad(tokens, (0, 6), value=3)
    torch.testing.assert_close(short(images, tokens, lengths), long(images, padded, lengths))
    for ours, theirs in zip(short.buffers(), long.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@NAMES
def test_what_stands_in_the_padding_changes_nothing(name: str) -> None:
    net = make(name).eval()
    images, tokens, lengths = data(4, LENGTHS)
    inside = torch.arange(tokens.shape[1]) < lengths[:, None]
    assert torch.equal(net(images, tokens, lengths), net(images, tokens.where(inside, 9), lengths))


@NAMES
def test_order_of_images_and_captions_is_free(name: str) -> None:
    net = make(name).eval()
    images, tokens, lengths = data(4, LENGTHS)
    rows, columns = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 3, 2])
    expected = net(images, tokens, lengths)[rows][:, columns]
    torch.testing.assert_close(net(images[rows], tokens[columns], lengths[columns]), expected)


@NAMES
def test_a_caption_does_not_depend_on_its_neighbours(name: str) -> None:
    net = make(name).eval()
    images, tokens, lengths = data(4, LENGTHS)
    whole = net(images, tokens, lengths)
    for row, length in enumerate(LENGTHS):
        one = net(images[1:2], tokens[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(one[0, 0], whole[1, row])


@NAMES
def test_scores_of_taken_and_joined_encodings(name: str) -> None:
    net = make(name).eval()
    images, tokens, lengths = data(4, LENGTHS)
    expected = net(images, tokens, lengths)
    pieces = [net.encode_captions(tokens[c : c + 1, :n], lengths[c : c + 1]) for c, n in enumerate(LENGTHS)]
    captions = Encoded.join(pieces)
    halves = Encoded.join([net.encode_images(images[:1]), net.encode_images(images[1:])])
    assert (len(captions), len(halves)) == (5, 4)
    torch.testing.assert_close(net.score(halves, captions), expected)
    torch.testing.assert_close(
        net.score(halves.take(torch.tensor([3, 0])), captions.take(slice(1, 4))), expected[[3, 0]][:, 1:4]
    )


@NAMES
def test_range_of_scores(name: str) -> None:
    scores = make(name).eval()(*data(6, LENGTHS))
    lowest = 0 if name in DROPPING else -1
    highest = torch.ones(5, dtype=torch.float64)
    if name.endswith("-lse"):  # log-sum-exp exceeds the largest cosine by at most log(n) / a
        highest += torch.tensor(LENGTHS).log() / 6 if "t2i" in name else math.log(4) / 5
    assert scores.shape == (6, 5)
    assert lowest <= scores.min()
    assert (scores <= highest).all()
    assert scores.std() > 1e-4  # and they differ


@NAMES
def test_dropout_is_for_training_only(name: str) -> None:
    net, batch = make(name, dropout=0.4), data(4, LENGTHS)
    assert torch.equal(net.eval()(*batch), net(*batch))
    differ = not torch.equal(net.train()(*batch), net(*batch))
    assert differ == (name in DROPPING)
