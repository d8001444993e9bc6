"""SGRAF is the mean of its members, and reports their work once."""

from __future__ import annotations

import pytest
import torch
from reports import Reported
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.graph import SAF, SGR
from ncbench.backbones.registry import BACKBONES, build_backbone, members_of


def make() -> Backbone:
    torch.manual_seed(0)
    return build_backbone("sgraf", Sizes(7, 4, 13, embed=6, similarity=5, word=3, dropout=0.0)).double()


def data() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 13, (5, 6), generator=generator), torch.tensor([4, 1, 6, 2, 3])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_mean_of_its_members(training: bool) -> None:
    net, batch = make().train(training), data()
    sgr, saf = net.members
    assert (type(sgr), type(saf)) == (SGR, SAF)
    expected = (sgr(*batch) + saf(*batch)) / 2
    assert (sgr(*batch) - saf(*batch)).abs().max() > 1e-3
    torch.testing.assert_close(net(*batch), expected)


def test_members_share_no_weights_and_report_nothing() -> None:
    net = make()
    sgr, saf = net.members
    count = sum(weight.numel() for member in (sgr, saf) for weight in member.parameters())
    assert sum(weight.numel() for weight in net.parameters()) == count
    assert not torch.equal(sgr.image_encoder.project.weight, saf.image_encoder.project.weight)
    net.on_work = outer = Reported()
    for member in net.members:
        member.on_work = lambda *_: pytest.fail("a member reported work")
    with torch.no_grad():
        net(*data())
    lengths = data()[2].tolist()
    assert outer == [
        3 * (sgr.image_work(4) + saf.image_work(4)),
        sum(sgr.caption_work(length) + saf.caption_work(length) for length in lengths),
        3 * sum(sgr.pair_work(4, length) + saf.pair_work(4, length) for length in lengths),
    ]
    assert net.pair_bytes(4, 6) == max(sgr.pair_bytes(4, 6), saf.pair_bytes(4, 6))


def test_encodings_are_the_members_one_after_the_other() -> None:
    net, (images, tokens, lengths) = make().eval(), data()
    for found, parts in (
        (net.encode_images(images), [member.encode_images(images) for member in net.members]),
        (net.encode_captions(tokens, lengths), [member.encode_captions(tokens, lengths) for member in net.members]),
    ):
        expected = [part for encoded in parts for part in encoded.parts]
        for mine, other in zip(found.parts, expected, strict=True):
            assert torch.equal(mine, other)


def test_names_of_members() -> None:
    assert members_of("sgraf") == ("sgr", "saf")
    assert all(members_of(name) == (name,) for name in BACKBONES if name != "sgraf")
    assert all(member in BACKBONES for name in BACKBONES for member in members_of(name))
