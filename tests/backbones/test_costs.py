"""Cost formulas against torch's FLOP counter, work reports, parameter counts, names."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from reports import Reported
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ncbench.backbones import pieces
from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.registry import BACKBONES, backbone_class, build_backbone, check_backbone, resolve
from ncbench.budget import BudgetSpent
from ncbench.errors import UserError

NAMES = sorted(BACKBONES)
IMAGE_DIM, EMBED, SIMILARITY, WORD = 12, 16, 8, 10
N_IMAGES, N_CAPTIONS = 5, 4


HEADED = [(name, head) for name in NAMES for head in (0, 6) if not head or "head" in backbone_class(name).ABILITIES]


def added_in_place(_: torch.Size, first: torch.Size, second: torch.Size, **rest: object) -> int:
    """Return the FLOPs of `x.baddbmm_(first, second)`, of shapes (B, N, K) and (B, K, M)."""
    return 2 * first.numel() * second[2]


def counting() -> FlopCounterMode:
    """Return torch's counter, which also counts products that are added in place."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: added_in_place})


def make(name: str, n_regions: int = 3, head: int = 0) -> Backbone:
    torch.manual_seed(0)
    sizes = Sizes(IMAGE_DIM, n_regions, 20, embed=EMBED, similarity=SIMILARITY, word=WORD, head=head)
    return build_backbone(name, sizes)


def data(n_regions: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.arange(N_CAPTIONS * length).reshape(N_CAPTIONS, length) % 20
    return torch.randn(N_IMAGES, n_regions, IMAGE_DIM), tokens, torch.full((N_CAPTIONS,), length)


def expected(
    net: Backbone, n_regions: int, length: int, n_images: int = N_IMAGES, n_captions: int = N_CAPTIONS
) -> tuple[int, int, int]:
    images, captions = n_images * net.image_work(n_regions), n_captions * net.caption_work(length)
    return images, captions, n_images * n_captions * net.pair_work(n_regions, length)


# One product of all gates of a bidirectional GRU of width 32, with a position or a state, as in GPO.
GATES_OF_RANKS = 2 * 3 * 2 * 32**2


def per_call(net: Backbone, name: str, n_regions: int, length: int) -> tuple[int, int, int]:
    """FLOPs of the three calls that are not in the formulas, since they do not depend on the numbers of items.

    W_q^T W_k and b_q W_k of SGR; in VSE-infinity the weights of ranks: a GRU over positions, a score of each.
    """
    if name in ("sgr", "sgraf"):
        similarity = net.sizes.similarity
        return 0, 0, 3 * 2 * (similarity**3 + similarity**2)
    if name == "vse-infinity":
        per_rank = 2 * GATES_OF_RANKS + 2 * 32
        return n_regions * per_rank, length * per_rank, 0
    return 0, 0, 0


def of_first_states(name: str) -> tuple[int, int, int]:
    """FLOPs of products in the three calls that training leaves out: of recurrent weights and first states, zero."""
    recurrent = {"vse": 1, "vse-mlp": 1, "sgraf": 4}.get(name, 2) * 3 * 2 * EMBED**2  # directions of all members
    ranks = GATES_OF_RANKS if name == "vse-infinity" else 0
    return ranks, N_CAPTIONS * recurrent + ranks, 0


def forward_flops(net: Backbone, name: str, n_regions: int, length: int) -> tuple[int, ...]:
    """Return what the three calls of a forward pass in training are expected to cost."""
    parts = expected(net, n_regions, length), per_call(net, name, n_regions, length), of_first_states(name)
    return tuple(formula + once - left_out for formula, once, left_out in zip(*parts, strict=True))


def count_steps(net: Backbone, n_regions: int, length: int) -> tuple[int, int, int]:
    """Return what torch counts in the three calls of a forward pass."""
    images, tokens, lengths = data(n_regions, length)
    seen = []
    with counting() as counter:
        encoded_images = net.encode_images(images)
        seen.append(counter.get_total_flops())
        encoded_captions = net.encode_captions(tokens, lengths)
        seen.append(counter.get_total_flops())
        net.score(encoded_images, encoded_captions)
        seen.append(counter.get_total_flops())
    return seen[0], seen[1] - seen[0], seen[2] - seen[1]


@pytest.mark.parametrize(("name", "head"), HEADED)
@pytest.mark.parametrize(("n_regions", "length"), [(3, 6), (36, 6), (1, 1), (2, 11)])
def test_formulas_count_every_matrix_product_of_a_forward_pass(
    name: str, head: int, n_regions: int, length: int
) -> None:
    net = make(name, n_regions, head)
    assert count_steps(net, n_regions, length) == forward_flops(net, name, n_regions, length)


def of_features(net: Backbone, name: str, n_regions: int, n_images: int = N_IMAGES) -> int:
    """FLOPs of the gradient of the image features, which is not computed: of the first maps of the images."""
    widths = {"vse-infinity": 1.5, "sgraf": 2}
    rows = n_images * (1 if name in ("vse", "vse-mlp") else n_regions)
    return int(rows * 2 * net.sizes.image_dim * net.sizes.embed * widths.get(name, 1))


def of_ranks(name: str, n_regions: int, length: int) -> int:
    """FLOPs of gradients in GPO that are not computed: those of positions."""
    return (n_regions + length) * GATES_OF_RANKS if name == "vse-infinity" else 0


def recomputed(
    net: Backbone, name: str, n_regions: int, length: int, n_images: int = N_IMAGES, n_captions: int = N_CAPTIONS
) -> int:
    """FLOPs that the backward pass of `align_words` spends on recomputing, to save memory.

    What each word sees of each image is made again (2 R E); of each image v v^T is made, and its product with a
    matrix (R, R) of the image's words (4 R^2 E); each word is multiplied with these two matrices (4 R^2).
    """
    per_word, per_image = 2 * n_regions * net.sizes.embed + 4 * n_regions**2, 4 * n_regions**2 * net.sizes.embed
    of_one = n_images * (n_captions * length * per_word + per_image)
    return {"sgr": 1, "saf": 1, "sgraf": 2}.get(name, 0) * of_one


@pytest.mark.parametrize(("name", "head"), HEADED)
@pytest.mark.parametrize(("n_regions", "length"), [(3, 6), (36, 11), (1, 1)])
def test_backward_costs_twice_the_forward_pass(name: str, head: int, n_regions: int, length: int) -> None:
    """Forward and backward cost three times the formulas, except for what the functions above give.

    Not in the formulas, and not in torch's counter either, are products of a matrix and a vector (the levels of SGR's
    nodes), elementwise operations, norms, softmaxes, sorting and the look-up of words.
    """
    net = make(name, n_regions, head)
    with counting() as counter:
        net(*data(n_regions, length)).sum().backward()
    products = sum(forward_flops(net, name, n_regions, length))
    unasked = of_features(net, name, n_regions) + of_ranks(name, n_regions, length)
    assert counter.get_total_flops() == 3 * products - unasked + recomputed(net, name, n_regions, length)


@pytest.mark.parametrize(("name", "head"), HEADED)
def test_pairs_alone_cost_what_pairs_cost(name: str, head: int) -> None:
    net, (images, tokens, lengths) = make(name, head=head), data(3, 6)
    seen, said = net.encode_images(images[:N_CAPTIONS]), net.encode_captions(tokens, lengths)
    with counting() as counter:
        net.score_each(seen, said)
    once = per_call(net, name, 3, 6)[2] * (N_CAPTIONS if name == "sgraf" else 1)  # a call per pair
    assert counter.get_total_flops() == N_CAPTIONS * net.pair_work(3, 6) + once


@pytest.mark.parametrize("name", ["sgr", "saf", "vse", "vse-infinity"])
def test_a_gradient_through_a_gradient_costs_as_much_as_the_gradient(name: str) -> None:
    """Five forward passes: one, a gradient of the weights (2), and the derivative of its direction by the head (2).

    What is above 5 is that custom backward passes repeat their forward pass (see `differentiable_gradients`); what is
    below, that nobody asks for the gradient of the features.
    """
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(96, 12, 20, embed=128, similarity=64, word=64, head=64))
    batch = torch.randn(8, 12, 96), torch.arange(96).reshape(8, 12) % 20, torch.full((8,), 12)
    body = [weight for name, weight in net.named_parameters() if not name.startswith("head.")]
    with counting() as counter:
        scores = net(*batch)
        gradients = torch.autograd.grad(scores.square().sum(), body, create_graph=True, materialize_grads=True)
        along = sum((gradient * weight.detach()).sum() for gradient, weight in zip(gradients, body, strict=True))
        torch.autograd.grad(along, list(net.head.parameters()))
    forward = sum(expected(net, 12, 12, 8, 8))
    assert 4.2 < counter.get_total_flops() / forward < 5.8


@pytest.mark.parametrize("name", ["sgr", "saf", "sgraf"])
def test_pieces_cost_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "CPU_BYTES", 1)  # one image a piece
    net = make(name)
    products = forward_flops(net, name, 3, 6)
    assert count_steps(net, 3, 6) == products
    with counting() as counter:
        net(*data(3, 6)).sum().backward()
    total = 3 * sum(products) - of_features(net, name, 3) + recomputed(net, name, 3, 6)
    assert counter.get_total_flops() == total


# Scores of images against images and of captions against captions, where a backbone has them.

ABLE = [name for name in NAMES if "within" in backbone_class(name).ABILITIES]


def encode(net: Backbone, n_regions: int, length: int) -> tuple[Encoded, Encoded]:
    """Return encodings that require gradients, as if they were inputs."""
    images, tokens, lengths = data(n_regions, length)
    encoded = net.encode_images(images), net.encode_captions(tokens, lengths)
    return tuple(
        Encoded(tuple(p.detach().requires_grad_() if p.is_floating_point() else p for p in e.parts)) for e in encoded
    )


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize(("n_regions", "length"), [(3, 6), (36, 11), (1, 1)])
def test_costs_of_images_against_images(name: str, n_regions: int, length: int) -> None:
    net = make(name, n_regions)
    images, _ = encode(net, n_regions, length)
    others = images.take(slice(0, 2))
    once = per_call(net, name, n_regions, length)[2]
    products = N_IMAGES * 2 * net.image_pair_work(n_regions) + once
    with counting() as counter:
        scores = net.score_images(images, others)
        assert counter.get_total_flops() == products
        scores.sum().backward()
        assert counter.get_total_flops() == 3 * products


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("length", [1, 6, 11])
@pytest.mark.parametrize("other_length", [1, 9])
def test_costs_of_captions_against_captions(name: str, length: int, other_length: int) -> None:
    """`align_words` recomputes as for images whose regions are words."""
    net = make(name)
    _, captions = encode(net, 3, length)
    _, others = encode(net, 3, other_length)
    others = others.take(slice(0, 3))
    once = per_call(net, name, 3, length)[2]
    products = N_CAPTIONS * 3 * net.caption_pair_work(length, other_length) + once
    with counting() as counter:
        scores = net.score_captions(captions, others)
        assert counter.get_total_flops() == products
        scores.sum().backward()
        again = recomputed(net, name, length, other_length, N_CAPTIONS, 3)
        assert counter.get_total_flops() == 3 * products + again


@pytest.mark.parametrize("name", ABLE)
def test_work_within_is_reported_once_without_and_three_times_with_gradients(name: str) -> None:
    net, lengths = make(name), [1, 6, 3, 6]
    features, tokens, _ = data(3, 9)
    images, captions = net.encode_images(features), net.encode_captions(tokens, torch.tensor(lengths))
    seen = reports(net)

    def score() -> list[int]:
        seen.clear()
        net.score_images(images, images.take(slice(0, 2)))
        net.score_captions(captions, captions.take(slice(1, 3)))
        return list(seen)

    of_captions = sum(net.caption_pair_work(length, other) for length in lengths for other in (6, 3))
    expected = [N_IMAGES * 2 * net.image_pair_work(3), of_captions]
    assert score() == [3 * work for work in expected]
    with torch.no_grad():
        assert score() == expected
    net.requires_grad_(False)
    assert score() == expected


@pytest.mark.parametrize("name", NAMES)
def test_formulas_nearly_hold_at_published_sizes(name: str) -> None:
    """A step of 128 pairs costs three times the formulas to 5 %, had features a gradient: a sixth in VSE-infinity."""
    n_regions, length, batch = 36, 12, 128
    with torch.device("meta"):
        net = build_backbone(name, Sizes(image_dim=2048, n_regions=n_regions, vocabulary=8_481))
    formulas = sum(expected(net, n_regions, length, batch, batch))
    once = sum(per_call(net, name, n_regions, length)) - of_ranks(name, n_regions, length) // 3
    further = 3 * once + recomputed(net, name, n_regions, length, batch, batch)
    assert 0 <= further < 0.05 * 3 * formulas
    assert of_features(net, name, n_regions, batch) < 3 * formulas / 6


def reports(net: Backbone) -> list[int]:
    net.on_work = seen = Reported()
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_work_is_reported_once_without_and_three_times_with_gradients(name: str) -> None:
    net, batch = make(name), data(3, 6)
    seen = reports(net)
    net(*batch)
    assert seen == [3 * work for work in expected(net, 3, 6)]
    seen.clear()
    with torch.no_grad():
        net(*batch)
    assert seen == list(expected(net, 3, 6))
    seen.clear()
    net.requires_grad_(False)
    net(*batch)
    assert seen == list(expected(net, 3, 6))


@pytest.mark.parametrize("name", NAMES)
def test_work_follows_the_true_lengths(name: str) -> None:
    net, lengths = make(name), [1, 6, 3, 2]
    images, tokens, _ = data(3, 9)
    seen = reports(net)
    with torch.no_grad():
        net(images, tokens, torch.tensor(lengths))
    captions = sum(net.caption_work(length) for length in lengths)
    pairs = sum(N_IMAGES * net.pair_work(3, length) for length in lengths)
    assert seen == [N_IMAGES * net.image_work(3), captions, pairs]


STEPS = ("encode_images", "encode_captions", "score")
STEPS_WITHIN = ("score_images", "score_captions")


@pytest.mark.parametrize(("name", "step"), [*product(NAMES, STEPS), *product(ABLE, STEPS_WITHIN)])
def test_work_is_reported_before_it_is_done(name: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (images, tokens, lengths) = make(name), data(3, 6)
    encoded_images, encoded_captions = net.encode_images(images), net.encode_captions(tokens, lengths)
    arguments = {
        "encode_images": (images,),
        "encode_captions": (tokens, lengths),
        "score": (encoded_images, encoded_captions),
        "score_images": (encoded_images, encoded_images),
        "score_captions": (encoded_captions, encoded_captions),
    }
    done = []
    monkeypatch.setattr(net, f"_{step}", lambda *_: done.append(step))

    def refuse(flops: int, pairs: int = 0, samples: int = 0) -> None:
        raise BudgetSpent

    net.on_work = refuse
    with pytest.raises(BudgetSpent):
        getattr(net, step)(*arguments[step])
    assert done == []


@pytest.mark.parametrize("name", NAMES)
def test_bytes_of_a_pair_are_positive_and_grow(name: str) -> None:
    net = make(name)
    assert 0 < net.pair_bytes(3, 2) <= net.pair_bytes(3, 9) <= net.pair_bytes(36, 9)


# Parameter counts of the released networks (backbones.md, 1.11).
@pytest.mark.parametrize(
    ("name", "vocabulary", "count"),
    [
        ("sgr", 8_481, 18_109_175),
        ("sgr", 11_353, 18_970_775),
        ("sgr", 12_072, 19_186_475),
        ("saf", 8_481, 17_517_306),
        ("saf", 11_353, 18_378_906),
        ("saf", 12_072, 18_594_606),
    ],
)
def test_parameter_counts_of_the_released_networks(name: str, vocabulary: int, count: int) -> None:
    with torch.device("meta"):
        net = build_backbone(name, Sizes(image_dim=2048, n_regions=36, vocabulary=vocabulary))
    assert sum(weight.numel() for weight in net.parameters()) == count


# CRCL adds a mask word to the vocabulary. The counts of its networks, 14,392,600 on Flickr30K, include the 2,048
# weights of an unused batch norm, which ncbench omits.
@pytest.mark.parametrize(("vocabulary", "count"), [(8_482, 14_392_600), (11_354, 15_254_200), (12_073, 15_469_900)])
def test_parameter_counts_of_vse_infinity(vocabulary: int, count: int) -> None:
    with torch.device("meta"):
        net = build_backbone("vse-infinity", Sizes(image_dim=2048, n_regions=36, vocabulary=vocabulary))
    assert sum(weight.numel() for weight in net.parameters()) == count - 2_048
    for pool in (net.image_pool, net.caption_pool):
        assert sum(weight.numel() for weight in pool.parameters()) == 12_704


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("scan-")])
def test_scan_has_weights_in_its_encoders_only(name: str) -> None:
    with torch.device("meta"):
        net = build_backbone(name, Sizes(image_dim=2048, n_regions=36, vocabulary=8_481))
    assert sum(weight.numel() for weight in net.parameters()) == 2_098_176 + 8_146_944 + 300 * 8_481


def test_parameter_counts_of_parts() -> None:
    with torch.device("meta"):
        saf = build_backbone("saf", Sizes(image_dim=2048, n_regions=36, vocabulary=100))
        sgr = build_backbone("sgr", Sizes(image_dim=2048, n_regions=36, vocabulary=100))

    def count(*parts: torch.nn.Module) -> int:
        return sum(weight.numel() for part in parts for weight in part.parameters())

    assert count(saf.image_encoder) == 2_098_176
    assert count(saf.caption_encoder.gru) == 8_146_944
    assert count(saf.caption_encoder.embedding) == 30_000
    assert count(saf.image_summary) == 2_102_345
    assert count(saf.caption_summary) == 2_100_225
    assert count(saf.local_alignment, saf.global_alignment) == 524_800
    assert count(saf.head) == 257
    assert (count(saf.gate), count(saf.gate_norm)) == (257, 2)
    assert count(sgr.steps) == 592_128


@pytest.mark.parametrize("name", ["sgr", "saf", "scan-t2i-lse", "scan-i2t-mean"])
def test_fresh_weights_are_distributed_as_published(name: str) -> None:
    torch.manual_seed(0)
    net = build_backbone(name, Sizes(image_dim=200, n_regions=4, vocabulary=500, embed=100, similarity=50, word=30))
    for layer in net.modules():
        if isinstance(layer, torch.nn.Linear):
            bound = (6 / sum(layer.weight.shape)) ** 0.5
            largest = layer.weight.abs().max().item()
            assert largest <= bound
            assert largest > 0.85 * bound
            assert not layer.bias.any()
    words = net.caption_encoder.embedding.weight
    assert 0.099 < words.max() <= 0.1
    assert -0.1 <= words.min() < -0.099
    assert words[0].any()  # an ordinary row, not a padding index


def test_fresh_weights_of_vse_infinity() -> None:
    torch.manual_seed(0)
    net = build_backbone("vse-infinity", Sizes(image_dim=200, n_regions=4, vocabulary=500, embed=100, word=30))
    images = net.image_encoder
    for layer, bound in [
        (images.project, (6 / 300) ** 0.5),  # Xavier's
        (images.expand, 200**-0.5),  # the library's
        (images.contract, 50**-0.5),
        (net.image_pool.score, 32**-0.5),
        (net.caption_pool.score, 32**-0.5),
    ]:
        assert 0.85 * bound < layer.weight.abs().max() <= bound
    assert not images.project.bias.any()
    assert images.expand.bias.any()
    assert images.contract.bias.any()
    words = net.caption_encoder.embedding.weight
    assert 0.099 < words.max() <= 0.1
    assert -0.1 <= words.min() < -0.099


def test_unknown_backbone() -> None:
    known = (
        "saf, scan, scan-i2t-lse, scan-i2t-mean, scan-t2i-lse, scan-t2i-mean, sgr, sgraf, vse, vse-infinity, vse-mlp"
    )
    message = rf"^unknown backbone 'srg'\. Did you mean 'sgr'.*\? Known: {known}\.$"
    with pytest.raises(UserError, match=message):
        check_backbone("srg")
    with pytest.raises(UserError, match="unknown backbone 'srg'"):
        build_backbone("srg", Sizes(1, 1, 4))


def test_scan_is_a_short_name() -> None:
    check_backbone("scan")
    assert resolve("scan") == "scan-t2i-lse"
    assert [resolve(name) for name in NAMES] == NAMES
    assert type(build_backbone("scan", Sizes(1, 1, 4))) is backbone_class("scan-t2i-lse")
    with pytest.raises(UserError, match=r"unknown backbone 'scam'\. Did you mean 'scan'"):
        resolve("scam")


def test_join_pads_shorter_captions_with_zeros() -> None:
    first = Encoded((torch.ones(2, 3, 4), torch.ones(2, 4), torch.tensor([3, 1])))
    second = Encoded((torch.full((1, 5, 4), 2.0), torch.full((1, 4), 2.0), torch.tensor([5])))
    words, summary, lengths = Encoded.join([first, second]).parts
    assert words.shape == (3, 5, 4)
    assert torch.equal(words[:2, :3], torch.ones(2, 3, 4))
    assert not words[:2, 3:].any()
    assert torch.equal(words[2], torch.full((5, 4), 2.0))
    assert torch.equal(summary[:, 0], torch.tensor([1.0, 1.0, 2.0]))
    assert lengths.tolist() == [3, 1, 5]


def test_join_refuses_pieces_of_different_kinds() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Encoded.join([Encoded((torch.ones(1, 2),)), Encoded((torch.ones(1, 2), torch.ones(1)))])


def test_take_by_slice_and_by_numbers() -> None:
    encoded = Encoded((torch.arange(6).reshape(3, 2), torch.arange(3)))
    assert encoded.take(slice(1, 3)).parts[1].tolist() == [1, 2]
    assert encoded.take(torch.tensor([2, 0])).parts[0].tolist() == [[4, 5], [0, 1]]
    assert len(encoded.take(slice(0, 1))) == 1
