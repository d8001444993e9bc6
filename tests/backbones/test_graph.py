"""SGR and SAF against the published loop over captions, written here from the formulas, and a worked example."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones import build_backbone
from ncbench.backbones.attention import attend_regions
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.graph import PerCaptionBatchNorm

VOCABULARY = 13


def l2(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True).sqrt() + 1e-8)


class PublishedLoop:
    """The network as published: one caption at a time, sliced to its length. Takes the weights of `net`."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.gate_norm = None
        if hasattr(net, "gate_norm"):
            self.gate_norm = nn.BatchNorm1d(1).double()
            self.gate_norm.weight, self.gate_norm.bias = net.gate_norm.weight, net.gate_norm.bias
            self.gate_norm.running_mean.copy_(net.gate_norm.running_mean)
            self.gate_norm.running_var.copy_(net.gate_norm.running_var)
            self.gate_norm.train(net.training)

    def __call__(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        regions = l2(self.net.image_encoder.project(images))
        image_summary = self.image_summary(regions)
        columns = []
        for caption, length in zip(tokens, lengths.tolist(), strict=True):
            words = self.words(caption[:length])
            columns.append(self.column(regions, image_summary, words))
        return torch.stack(columns, 1)

    def words(self, caption: Tensor) -> Tensor:
        states = self.net.caption_encoder.gru(self.net.caption_encoder.embedding(caption)[None])[0][0]
        forward, backward = states[:, : states.shape[1] // 2], states[:, states.shape[1] // 2 :]
        return l2((forward + backward) / 2)

    def image_summary(self, regions: Tensor) -> Tensor:
        part = self.net.image_summary
        local = part.local_norm(part.local_map(regions)).tanh()
        overall = part.global_norm(part.global_map(regions.mean(1))).tanh()
        weights = part.weigh(local * overall[:, None, :]).softmax(1)
        return l2((weights * regions).sum(1))

    def caption_summary(self, words: Tensor) -> Tensor:
        part = self.net.caption_summary
        local, overall = part.local_map(words).tanh(), part.global_map(words.mean(0)).tanh()
        return l2((part.weigh(local * overall).softmax(0) * words).sum(0))

    def column(self, regions: Tensor, image_summary: Tensor, words: Tensor) -> Tensor:
        affinity = l2(functional.leaky_relu(regions @ words.T, 0.1))  # (I, R, L), over words
        context = l2((9 * affinity.transpose(1, 2)).softmax(2) @ regions)  # (I, L, E)
        local = l2(self.net.local_alignment((context - words).square()))
        overall = l2(self.net.global_alignment((image_summary - self.caption_summary(words)).square()))
        nodes = torch.cat([overall[:, None], local], 1)
        vector = self.reason(nodes) if self.gate_norm is None else self.filter(nodes)
        return torch.sigmoid(self.net.head(vector))[:, 0]

    def reason(self, nodes: Tensor) -> Tensor:
        for step in self.net.steps:
            edges = (step.query(nodes) @ step.key(nodes).transpose(1, 2)).softmax(-1)
            nodes = step.update(edges @ nodes).relu()
        return nodes[:, 0]

    def filter(self, nodes: Tensor) -> Tensor:
        gate = self.gate_norm(self.net.gate(nodes).transpose(1, 2)).sigmoid()
        gate = gate / (gate.abs().sum(-1, keepdim=True) + 1e-8)
        return l2((gate @ nodes)[:, 0])


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
    loop = PublishedLoop(twin)
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
        # Powers of 0.9 are in single precision.
        torch.testing.assert_close(net.gate_norm.running_mean, loop.gate_norm.running_mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(net.gate_norm.running_var, loop.gate_norm.running_var, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sgr", "saf"])
@pytest.mark.parametrize("lengths", [[4, 2, 1], [3]])
def test_one_image_in_evaluation_mode(name: str, lengths: list[int]) -> None:
    net = make(name).eval()
    batch = data(1, lengths)
    torch.testing.assert_close(net(*batch), PublishedLoop(copy.deepcopy(net))(*batch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_one_image_cannot_train_as_published(name: str) -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        make(name).train()(*data(1, [3, 2]))


def test_worked_example_of_the_attention() -> None:
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]]])
    words = torch.tensor([[[0.8, 0.6], [-math.sqrt(0.5), math.sqrt(0.5)]]])
    contexts = attend_regions(regions, words, torch.ones(1, 2, dtype=torch.bool))
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
    """Captions of different level come out alike, which statistics over all of them would not give."""
    norm = PerCaptionBatchNorm().train()
    shape = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    logits = torch.cat([shape, 10 + 5 * shape], 1)
    first, second = norm(logits, torch.ones(2, 4, dtype=torch.bool)).unbind(1)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)
