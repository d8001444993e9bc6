"""Scores within a modality: pair by pair, alone, and for backbones that do not support them."""

from __future__ import annotations

import copy

import pytest
import torch
from published_loop import PublishedLoop, l2
from torch import Tensor, nn
from torch.nn import functional

from ncbench.backbones import pieces
from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.graph import PerCaptionBatchNorm
from ncbench.backbones.registry import BACKBONES, backbone_class, build_backbone

VOCABULARY = 13
LENGTHS = [4, 1, 6, 3, 7, 2]
ABLE = sorted(name for name in BACKBONES if not name.startswith("scan"))
GRAPH = pytest.mark.parametrize("name", ["sgr", "saf"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def make(name: str, n_regions: int = 4) -> Backbone:
    torch.manual_seed(0)
    sizes = Sizes(image_dim=7, n_regions=n_regions, vocabulary=VOCABULARY, embed=6, similarity=5, word=3, dropout=0.0)
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


def images_of(n_images: int, n_regions: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(n_images)
    return torch.randn(n_images, n_regions, 7, generator=generator, dtype=torch.float64)


def captions_of(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    return torch.randint(1, VOCABULARY, (len(lengths), max(lengths)), generator=generator), torch.tensor(lengths)


class Pairwise:
    """The scores of pairs as in the released code of GSC: a loop over columns and over the rows of each."""

    def __init__(self, net: Backbone) -> None:
        self.net, self.loop = net, PublishedLoop(net)

    def images(self, images: Encoded, others: Encoded) -> Tensor:
        columns = []
        for other, other_summary in zip(*others.parts, strict=True):
            rows = []
            for regions, summary in zip(*images.parts, strict=True):
                slots = [self._local((v - u) ** 2 + 1e-6) for v, u in zip(regions, other, strict=True)]
                rows.append(torch.stack([self._overall(summary, other_summary), *slots]))
            columns.append(self._read(torch.stack(rows)))
        return torch.stack(columns, 1)

    def captions(self, captions: Encoded, others: Encoded) -> Tensor:
        columns = []
        for other, other_summary, other_length in zip(*others.parts, strict=True):
            rows = []
            for words, summary, length in zip(*captions.parts, strict=True):
                seen, said = words[:length] + 1e-6, other[:other_length]
                affinity = l2(functional.leaky_relu(seen @ said.T, 0.1), 1)
                contexts = l2((9 * affinity.T).softmax(1) @ seen)
                local = [self._local((context - word) ** 2) for context, word in zip(contexts, said, strict=True)]
                rows.append(torch.stack([self._overall(summary, other_summary), *local]))
            columns.append(self._read(torch.stack(rows)))
        return torch.stack(columns, 1)

    def _local(self, squares: Tensor) -> Tensor:
        return l2(self.net.local_alignment(squares))

    def _overall(self, summary: Tensor, other: Tensor) -> Tensor:
        return l2(self.net.global_alignment((summary - other) ** 2 + 1e-6))

    def _read(self, nodes: Tensor) -> Tensor:
        """Return the similarities (I,) of the nodes (I, N, S) of a column."""
        vectors = self.loop.reason(nodes) if self.loop.gate_norm is None else self.loop.filter(nodes)
        return self.net.head(vectors)[:, 0].sigmoid()


def check_gradients(net: Backbone, found: Tensor, expected: Tensor) -> None:
    """Compare the gradients of weights through both, in a direction of no symmetry."""
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad((scores * direction).sum(), list(net.parameters()), allow_unused=True, retain_graph=True)
        for scores in (found, expected)
    )
    n_compared = 0
    for (key, weight), one, other in zip(net.named_parameters(), ours, theirs, strict=True):
        one, other = (torch.zeros_like(weight) if grad is None else grad for grad in (one, other))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")
        n_compared += bool(other.any())
    assert n_compared > 10


@GRAPH
@TRAINING
@pytest.mark.parametrize("n_regions", [4, 1])
@pytest.mark.parametrize("others", [[0, 1, 2, 3, 4], [3, 0]], ids=["alike", "some"])
def test_images_against_a_loop_over_pairs(name: str, training: bool, n_regions: int, others: list[int]) -> None:
    net = make(name, n_regions).train(training)
    encoded = net.encode_images(images_of(5, n_regions))
    taken = encoded.take(torch.tensor(others))
    pairwise = Pairwise(net)
    found, expected = net.score_images(encoded, taken), pairwise.images(encoded, taken)
    assert found.shape == (5, len(others))
    assert found.std() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    check_gradients(net, found, expected)


@GRAPH
@TRAINING
@pytest.mark.parametrize(
    ("lengths", "other_lengths"), [(LENGTHS, LENGTHS), ([5, 5], [5, 5]), ([3, 7, 1], [2]), ([4], [6, 1])]
)
def test_captions_against_a_loop_over_pairs(
    name: str, training: bool, lengths: list[int], other_lengths: list[int]
) -> None:
    net = make(name).train(training)
    captions, others = (net.encode_captions(*captions_of(chosen)) for chosen in (lengths, other_lengths))
    found, expected = net.score_captions(captions, others), Pairwise(net).captions(captions, others)
    assert found.shape == (len(lengths), len(other_lengths))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    check_gradients(net, found, expected)


@GRAPH
@TRAINING
def test_pieces_change_nothing(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (2**40, 1):
        monkeypatch.setattr(pieces, "CPU_BYTES", size)
        net = make(name).train(training)
        images, captions = net.encode_images(images_of(5)), net.encode_captions(*captions_of(LENGTHS))
        scores = net.score_images(images, images), net.score_captions(captions, captions)
        sum((matrix[0] ** 2).sum() for matrix in scores).backward()
        gradients = {key: weight.grad for key, weight in net.named_parameters() if weight.grad is not None}
        results.append({"images": scores[0], "captions": scores[1], **gradients})
    assert results[0].keys() == results[1].keys()
    for key, found in results[0].items():
        torch.testing.assert_close(found, results[1][key], rtol=1e-10, atol=1e-12, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ABLE)
def test_captions_give_what_they_give_alone(name: str) -> None:
    """Neither padding nor other captions affect the score of a pair."""
    net = make(name).eval()
    tokens, lengths = captions_of(LENGTHS)
    whole = net.encode_captions(tokens, lengths)
    alone = [net.encode_captions(tokens[c : c + 1, :n], lengths[c : c + 1]) for c, n in enumerate(LENGTHS)]
    found = net.score_captions(whole, whole)
    for row, caption in enumerate(alone):
        for column, other in enumerate(alone):
            torch.testing.assert_close(net.score_captions(caption, other)[0, 0], found[row, column])


@GRAPH
@TRAINING
def test_what_stands_in_the_padding_changes_nothing(name: str, training: bool) -> None:
    """Also not the padding of the attended captions, where words become 1e-6."""
    net = make(name).train(training)
    captions = net.encode_captions(*captions_of(LENGTHS))
    words, summary, lengths = captions.parts
    longer = Encoded((functional.pad(words, (0, 0, 0, 3)), summary, lengths))
    expected = net.score_captions(captions, captions)
    torch.testing.assert_close(net.score_captions(longer, captions), expected)
    torch.testing.assert_close(net.score_captions(captions, longer), expected)
    padding = (torch.arange(words.shape[1]) >= lengths[:, None])[..., None]
    foreign = Encoded((torch.where(padding, 0.3, words), summary, lengths))
    assert torch.equal(net.score_captions(foreign, captions), expected)


@pytest.mark.parametrize("name", ABLE)
def test_images_do_not_depend_on_their_neighbours(name: str) -> None:
    net = make(name).eval()
    encoded = net.encode_images(images_of(5))
    found = net.score_images(encoded, encoded)
    torch.testing.assert_close(found, found.T)
    one, other = encoded.take(slice(1, 2)), encoded.take(slice(3, 4))
    torch.testing.assert_close(net.score_images(one, other)[0, 0], found[1, 3])


@TRAINING
def test_statistics_follow_pairs_of_an_image_and_a_caption_only(training: bool) -> None:
    """In training, each pass is normalised by its own statistics, but only one updates the running statistics."""
    net = make("saf").train(training)
    images, captions = net.encode_images(images_of(5)), net.encode_captions(*captions_of(LENGTHS))
    before = copy.deepcopy(net.state_dict())
    first = net.score_images(images, images), net.score_captions(captions, captions)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    net.score(images, captions)
    moved = [key for key, value in net.state_dict().items() if not torch.equal(value, before[key])]
    assert moved == (["gate_norm.running_mean", "gate_norm.running_var"] if training else [])
    again = net.score_images(images, images), net.score_captions(captions, captions)
    assert all(map(torch.equal, first, again))


@pytest.mark.slow
@GRAPH
@TRAINING
def test_second_derivatives(name: str, training: bool) -> None:
    net = make(name).train(training).requires_grad_(False)
    images, captions = net.encode_images(images_of(3, 4)), net.encode_captions(*captions_of([3, 1, 2]))
    lengths = captions.parts[2]
    assert torch.autograd.gradgradcheck(
        lambda *parts: net.score_images(Encoded(parts), Encoded(parts)),
        [part.clone().requires_grad_() for part in images.parts],
    )
    words, summary = captions.parts[:2]
    inside = (torch.arange(3) < lengths[:, None])[..., None]

    def of_captions(words: Tensor, summary: Tensor) -> Tensor:
        encoded = Encoded((words * inside, summary, lengths))
        return net.score_captions(encoded, encoded)

    assert torch.autograd.gradgradcheck(of_captions, [words.clone().requires_grad_(), summary.clone().requires_grad_()])


@pytest.mark.parametrize("name", ["sgr", "saf", "sgraf"])
def test_fresh_networks_learn_from_items_against_themselves(name: str) -> None:
    """Of zero difference, under biases of zero, in single precision."""
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(7, 4, VOCABULARY, embed=6, similarity=5, word=3, dropout=0.4)).train()
    images = net.encode_images(images_of(4).float().repeat(2, 1, 1))
    captions = net.encode_captions(*(part.repeat(2, *[1] * (part.ndim - 1)) for part in captions_of([3, 1, 5, 2])))
    scores = [net.score_images(images, images), net.score_captions(captions, captions)]
    sum((2 * matrix).exp().sum() for matrix in scores).backward()
    assert all(matrix.isfinite().all() for matrix in scores)
    assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)


@pytest.mark.parametrize("name", ["vse", "vse-infinity"])
def test_cosines_of_vectors(name: str) -> None:
    net = make(name).eval()
    images, captions = net.encode_images(images_of(5)), net.encode_captions(*captions_of(LENGTHS))
    for encoded, score in ((images, net.score_images), (captions, net.score_captions)):
        (vectors,) = encoded.parts
        others = encoded.take(slice(1, 4))
        expected = functional.cosine_similarity(vectors[:, None], vectors[1:4], dim=-1)
        torch.testing.assert_close(score(encoded, others), expected)


@TRAINING
def test_the_ensemble_is_the_mean_of_its_members(training: bool) -> None:
    net = make("sgraf").train(training)
    members = list(net.members)
    tokens, lengths = captions_of(LENGTHS)
    images, captions = net.encode_images(images_of(5)), net.encode_captions(tokens, lengths)
    of_images = [member.score_images(*[member.encode_images(images_of(5))] * 2) for member in members]
    of_captions = [member.score_captions(*[member.encode_captions(tokens, lengths)] * 2) for member in members]
    torch.testing.assert_close(net.score_images(images, images), sum(of_images) / 2)
    torch.testing.assert_close(net.score_captions(captions, captions), sum(of_captions) / 2)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_who_has_the_ability(name: str) -> None:
    assert ("within" in backbone_class(name).ABILITIES) == (name in ABLE)


@pytest.mark.parametrize("name", ["scan-t2i-lse", "scan-i2t-mean"])
def test_scan_lacks_it(name: str) -> None:
    net = make(name)
    images, captions = net.encode_images(images_of(2)), net.encode_captions(*captions_of(LENGTHS))
    net.on_work = lambda *_: pytest.fail("work was reported")
    kind = type(net).__name__
    with pytest.raises(TypeError, match=rf"^{kind} does not score images against images$"):
        net.score_images(images, images)
    with pytest.raises(TypeError, match=rf"^{kind} does not score captions against captions$"):
        net.score_captions(captions, captions)
