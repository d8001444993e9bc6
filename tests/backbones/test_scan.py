"""SCAN against the formulas, one pair at a time with explicit contexts; and a worked example."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.scan import SCAN, cosine

NAMES = ["scan-t2i-lse", "scan-t2i-mean", "scan-i2t-lse", "scan-i2t-mean"]
VOCABULARY = 13


def l2(x: Tensor, dim: int = -1) -> Tensor:
    return x / (x.square().sum(dim, keepdim=True).sqrt() + 1e-8)


def attend(queries: Tensor, seen: Tensor, smooth: float) -> Tensor:
    """Return the cosine of each query (Q, E) with its context from (K, E)."""
    affinity = functional.leaky_relu(seen @ queries.T, 0.1)
    attention = (smooth * l2(affinity, 1).T).softmax(1)
    return functional.cosine_similarity(queries, attention @ seen, dim=1, eps=1e-8)


def similarity(name: str, regions: Tensor, words: Tensor, sharpness: float | None = None) -> Tensor:
    """Return the similarity of one image and one caption, of unit vectors; `sharpness` as published if None."""
    if "t2i" in name:
        cosines, published = attend(words, regions, 9), 6.0
    else:
        cosines, published = attend(regions, words, 4), 5.0
    if "mean" in name:
        return cosines.mean()
    sharpness = sharpness or published
    return (sharpness * cosines).exp().sum().log() / sharpness


def loop(net: Backbone, images: Tensor, tokens: Tensor, lengths: Tensor, name: str, sharpness: float | None) -> Tensor:
    encoder = net.caption_encoder
    columns = []
    for caption, length in zip(tokens, lengths.tolist(), strict=True):
        forward, backward = encoder.gru(encoder.embedding(caption[:length])[None])[0][0].chunk(2, 1)
        words = l2((forward + backward) / 2)
        rows = [similarity(name, l2(net.image_encoder.project(image)), words, sharpness) for image in images]
        columns.append(torch.stack(rows))
    return torch.stack(columns, 1)


def make(name: str, n_regions: int = 4, lse: float = 0.0) -> Backbone:
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(7, n_regions, VOCABULARY, embed=6, word=3, lse=lse)).double()
    torch.nn.init.uniform_(net.image_encoder.project.bias, 0.2, 0.6)
    with torch.no_grad():  # larger words: a fresh embedding makes all captions alike
        net.caption_encoder.embedding.weight.mul_(20)
    return net


def data(n_images: int, lengths: list[int], n_regions: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    images = torch.randn(n_images, n_regions, 7, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    return images, tokens, torch.tensor(lengths)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("n_images", "lengths", "n_regions", "lse"),
    [
        pytest.param(3, [4, 1, 9, 3, 5, 2, 8], 3, 0.0, id="three-regions"),
        pytest.param(4, [3, 7, 3], 1, 0.0, id="one-region"),
        pytest.param(2, [6, 1, 13], 36, 20.0, id="36-regions-sharper"),
        pytest.param(5, [5], 4, 2.0, id="one-caption-softer"),
        pytest.param(1, [1], 3, 0.0, id="one-pair-of-one-word"),
    ],
)
def test_pair_by_pair(name: str, n_images: int, lengths: list[int], n_regions: int, lse: float) -> None:
    net, batch = make(name, n_regions, lse).train(), data(n_images, lengths, n_regions)
    found, expected = net(*batch), loop(net, *batch, name, lse or None)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours = torch.autograd.grad((found * direction).sum(), list(net.parameters()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(net.parameters()))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)
    assert any(gradient.abs().max() > 1e-3 for gradient in ours)


def encode(net: Backbone, regions: Tensor, words: Tensor, lengths: Tensor) -> tuple[Encoded, Encoded]:
    """Return encodings of given unit vectors, in the form that `net` uses."""
    net.image_encoder.forward = lambda _: regions
    net.caption_encoder.forward = lambda *_: words
    return net.encode_images(regions), net.encode_captions(words, lengths)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scan-t2i-mean", 0.985458),
        ("scan-t2i-lse", 1.101042),
        ("scan-i2t-mean", 0.911954),
        ("scan-i2t-lse", 1.155218),
    ],
)
def test_worked_example(name: str, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]]])
    words = torch.tensor([[[0.8, 0.6], [-math.sqrt(0.5), math.sqrt(0.5)]]])
    net, pooled = make(name), []
    pool = SCAN._pool
    monkeypatch.setattr(
        SCAN, "_pool", lambda self, cosines, exist: (pooled.append(cosines), pool(self, cosines, exist))[1]
    )
    assert net.score(*encode(net, regions, words, torch.tensor([2]))).item() == pytest.approx(expected, abs=2e-6)
    cosines = [0.981036, 0.989881] if "t2i" in name else [0.763819, 0.979572, 0.992471]
    assert pooled[0].flatten().tolist() == pytest.approx(cosines, abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alike", [0.0, 3.0], ids=["scattered", "alike"])
def test_single_precision_keeps_five_digits(name: str, alike: float) -> None:
    """Norms of contexts come from Gram matrices, which rounding could spoil."""
    generator = torch.Generator().manual_seed(0)
    shared = alike * torch.randn(512, generator=generator, dtype=torch.float64)
    regions, words = (l2(torch.randn(6, n, 512, generator=generator, dtype=torch.float64) + shared) for n in (36, 12))
    expected = torch.stack([torch.stack([similarity(name, image, caption) for caption in words]) for image in regions])
    net = make(name, 36).float()
    found = net.score(*encode(net, regions.float(), words.float(), torch.full((6,), 12)))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_cosine_of_a_context_that_rounding_has_lost_is_bounded() -> None:
    along = torch.tensor([1e-4, -1e-4, 3e-4, 0.0], requires_grad=True)
    found = cosine(along, torch.ones(4), torch.tensor([0.0, -1e-8, 1e-6, 0.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0, 0.3, 0.0]))
    found.sum().backward()
    assert along.grad.isfinite().all()


def test_denominator_of_the_cosine_is_clamped() -> None:
    found = cosine(torch.tensor([3e-9, 3e-8]), torch.ones(2), torch.tensor([1e-17, 1e-14]))
    torch.testing.assert_close(found, torch.tensor([0.3, 0.3]))


@pytest.mark.parametrize("name", NAMES)
def test_contexts_of_nothing_score_nothing_with_finite_gradients(name: str) -> None:
    """An image of zeros has no direction: all its cosines are 0."""
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(7, 3, VOCABULARY, embed=6, word=3))
    images = torch.randn(2, 3, 7)
    images[0] = 0
    images[1, 1] = 0
    images.requires_grad_()
    scores = net(images, torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    queries = torch.tensor([3, 2] if "t2i" in name else [3, 3])
    nothing = torch.zeros(2) if "mean" in name else queries.log() / (6 if "t2i" in name else 5)
    torch.testing.assert_close(scores[0], nothing, rtol=0, atol=1e-6)
    scores.sum().backward()
    assert images.grad.isfinite().all()
    for key, weight in net.named_parameters():
        assert weight.grad.isfinite().all(), key


def test_log_sum_exp_grows_with_the_words_and_the_mean_does_not() -> None:
    regions = l2(torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0)))
    word = l2(torch.randn(5, generator=torch.Generator().manual_seed(1)))
    words = torch.stack([word, word, word, word]).expand(2, -1, -1).clone()
    words[1, 2:] = 0
    for name, gap in (("scan-t2i-lse", math.log(2) / 6), ("scan-t2i-mean", 0.0)):
        net = make(name).float()
        # Attention is sharper where fewer words share a region's norm: scale that out by a single region.
        one = regions[:, :1]
        long, short = net.score(*encode(net, one, words, torch.tensor([4, 2])))[0].tolist()
        assert long - short == pytest.approx(gap, abs=1e-6)
