"""SGR and SAF against the published loop over captions, and a worked example."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from published_loop import PublishedLoop, l2
from torch import Tensor, nn

from ncbench.backbones import pieces
from ncbench.backbones.attention import region_attention
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.graph import AlignmentBackbone, PerCaptionBatchNorm
from ncbench.backbones.pieces import PADDING_SHARE
from ncbench.backbones.registry import build_backbone

VOCABULARY = 13


class NaiveLoop(PublishedLoop):
    """The published loop, with the recurrent network run over one unpadded caption at a time."""

    def words(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        encoder, rows = self.net.caption_encoder, []
        for caption, length in zip(tokens, lengths.tolist(), strict=True):
            states = encoder.gru(encoder.embedding(caption[:length])[None])[0][0]
            forward, backward = states.chunk(2, 1)
            rows.append(l2((forward + backward) / 2))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def make(name: str, n_regions: int = 4, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    sizes = Sizes(image_dim=7, n_regions=n_regions, vocabulary=VOCABULARY, embed=6, similarity=5, word=3, dropout=0.0)
    net = build_backbone(name, sizes).double()
    for weight in net.parameters():  # zero biases would hide where they enter
        if weight.ndim == 1:
            nn.init.uniform_(weight, 0.2, 0.6)
    with torch.no_grad():  # larger words: a fresh embedding makes all captions alike
        net.caption_encoder.embedding.weight.mul_(20)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | PerCaptionBatchNorm):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)
    return net


def data(n_images: int, lengths: list[int], n_regions: int = 4, pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    images = torch.randn(n_images, n_regions, 7, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, VOCABULARY, (len(lengths), max(lengths) + pad), generator=generator)
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    return images, tokens, torch.tensor(lengths)


SHAPES = [  # images, lengths, regions
    pytest.param(5, [4, 1, 6, 3, 7, 2, 5], 4, id="lengths-1-to-7"),
    pytest.param(3, [6, 1, 4, 4, 1], 5, id="odd"),
    pytest.param(4, [3, 7], 1, id="one-region"),
    pytest.param(7, [5], 3, id="one-caption"),
    pytest.param(2, [1], 3, id="one-caption-of-one-word"),
]


@pytest.mark.parametrize("name", ["sgr", "saf"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("n_images", "lengths", "n_regions"), SHAPES)
def test_published_loop(name: str, training: bool, n_images: int, lengths: list[int], n_regions: int) -> None:
    net = make(name, n_regions).train(training)
    twin = copy.deepcopy(net)
    loop = NaiveLoop(twin)
    batch = data(n_images, lengths, n_regions)
    found, expected = net(*batch), loop(*batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for (key, ours), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        ours_grad = torch.zeros_like(ours) if ours.grad is None else ours.grad
        theirs_grad = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-7, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}")

    for (key, ours), theirs in zip(net.image_summary.named_buffers(), twin.image_summary.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda m, key=key: f"{key}: {m}")
    if name == "saf":
        # Powers of 0.9 are float32.
        torch.testing.assert_close(net.gate_norm.running_mean, loop.gate_norm.running_mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(net.gate_norm.running_var, loop.gate_norm.running_var, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sgr", "saf"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_pieces_change_nothing(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pieces of images nor groups of captions matter: all at once, some, or one image and length at a time."""
    lengths = [4, 1, 6, 3, 7, 2, 5, 3]
    results, counts, groups = [], [], []
    nodes = AlignmentBackbone._nodes
    monkeypatch.setattr(AlignmentBackbone, "_nodes", lambda *args: groups.append(args) or nodes(*args))
    for size in (
        2**40,
        int(4 * 5 * 6 * 4 / PADDING_SHARE),
        1,
    ):  # the second: 4 padded words, 5 images, 6 float32
        monkeypatch.setattr(pieces, "CPU_BYTES", size)
        net = make(name).train(training)
        scores = net(*data(5, lengths))
        direction = torch.randn(scores.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        (scores * direction).sum().backward()
        gradients = {key: weight.grad for key, weight in net.named_parameters() if weight.grad is not None}
        results.append({"scores": scores, **dict(net.named_buffers()), **gradients})
        counts.append(len(groups))
        groups.clear()
    assert counts == [1, 3, 7]
    for result in results[1:]:
        assert result.keys() == results[0].keys()
        for key, found in result.items():
            expected = results[0][key]
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ["sgr", "saf"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("lengths", [[3, 3], [4, 1, 3]], ids=["alike", "ragged"])
def test_second_derivatives_are_slopes_of_the_gradient(name: str, training: bool, lengths: list[int]) -> None:
    net, batch = make(name).train(training), data(3, lengths)
    weights = dict(net.named_parameters())
    generator = torch.Generator().manual_seed(3)
    direction = {
        k: torch.randn(weight.shape, generator=generator, dtype=torch.float64) for k, weight in weights.items()
    }

    def gradients(distance: float, twice: bool = False) -> list[Tensor]:
        """Return the gradients of the weights, moved so far along the direction."""
        moved = {key: weight + distance * direction[key] for key, weight in weights.items()}
        total = torch.func.functional_call(net, moved, batch).square().sum()
        return list(torch.autograd.grad(total, weights.values(), create_graph=twice, materialize_grads=True))

    step = 1e-6
    expected = [(after - before) / (2 * step) for after, before in zip(gradients(step), gradients(-step), strict=True)]
    slopes = zip(gradients(0, twice=True), direction.values(), strict=True)
    slope = sum((gradient * towards).sum() for gradient, towards in slopes)
    found = torch.autograd.grad(slope, weights.values(), materialize_grads=True)
    largest = max(gradient.abs().max().item() for gradient in expected)
    for key, ours, theirs in zip(weights, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * largest, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ["sgr", "saf"])
@pytest.mark.parametrize("lengths", [[4, 2, 1], [3]])
def test_one_image_in_evaluation_mode(name: str, lengths: list[int]) -> None:
    net = make(name).eval()
    batch = data(1, lengths)
    torch.testing.assert_close(net(*batch), NaiveLoop(copy.deepcopy(net))(*batch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_one_image_cannot_train_as_published(name: str) -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        make(name).train()(*data(1, [3, 2]))


def test_worked_example_of_the_attention() -> None:
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]]])
    words = torch.tensor([[[0.8, 0.6], [-math.sqrt(0.5), math.sqrt(0.5)]]])
    attention = region_attention(regions, words)
    shares = torch.tensor([[[0.515247, 0.484687, 0.000066], [0.000056, 0.000458, 0.999486]]])
    torch.testing.assert_close(attention, shares, rtol=0, atol=2e-6)
    contexts = l2(attention @ regions)
    expected = torch.tensor([[[0.901125, 0.433560], [-0.599612, 0.800291]]])
    torch.testing.assert_close(contexts, expected, rtol=0, atol=2e-6)
    squares = torch.tensor([[[0.010226, 0.027702], [0.011555, 0.008683]]])
    torch.testing.assert_close((contexts - words).square(), squares, rtol=0, atol=2e-6)


def test_worked_example_of_the_gate() -> None:
    norm = PerCaptionBatchNorm().train()
    logits = torch.tensor([[[0.2, -0.1, 0.4]], [[0.0, 0.3, -0.2]]])
    normalised = norm(logits, torch.ones(1, 3, dtype=torch.bool))
    row = torch.tensor([0.462860, -0.925721, 1.388581])
    torch.testing.assert_close(normalised, torch.stack([row, -row])[:, None], rtol=0, atol=2e-6)
    gate = normalised.sigmoid()[:, 0]
    expected = torch.tensor([[0.361452, 0.167149, 0.471399], [0.296669, 0.550019, 0.153312]])
    torch.testing.assert_close(gate / gate.sum(1, keepdim=True), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.01]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9056]))


def test_gate_statistics_are_no_pooled_ones() -> None:
    """Captions of different levels get the same scores, which statistics over all captions would not give."""
    norm = PerCaptionBatchNorm().train()
    shape = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    logits = torch.cat([shape, 10 + 5 * shape], 1)
    first, second = norm(logits, torch.ones(2, 4, dtype=torch.bool)).unbind(1)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)
