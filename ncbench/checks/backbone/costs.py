"""Checks of costs: the FLOPs that a backbone reports, against those that torch counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ncbench.backbones.base import Backbone, Encoded
from ncbench.checks.backbone.subject import ITEMS, SCORED, BackboneUnderTest, Inputs, encode
from ncbench.checks.verdicts import Check, Failed
from ncbench.method import losses
from ncbench.runtime.products import ProductCounter, counting
from ncbench.training.audit import MAX_UNCHARGED

ROUNDING = 1.02
FIXED_SHARE = 1.10
"""A formula may count this much more than torch does in a batch, for what a pass computes once."""

MAX_CHARGED = 2.5
"""FLOPs charged for an update over those that torch counts. Layers that read the input have one product fewer in the
backward pass, so a ratio of 1.5 is usual for small networks."""


def _costs(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    n_regions = subject.sizes.n_regions
    ratios = [_ratio("image_work", network.image_work(n_regions), partial(_encode_images, network, inputs))]
    for item in sorted({0, len(inputs.images) - 1}):
        length = int(inputs.lengths[item])
        one_caption = partial(_encode_captions, network, inputs, item)
        ratios.append(_ratio(f"caption_work({length})", network.caption_work(length), one_caption))
        with torch.no_grad():
            images, captions = encode(network, inputs.alike(item, 2 * ITEMS))
        length = network._lengths(captions)[0]
        of_image = 2 * ITEMS * network.pair_work(n_regions, length)
        score = partial(_score_some, network, images, captions)
        ratios.append(_ratio(f"pair_work({n_regions}, {length}) with {2 * ITEMS} captions", of_image, score))
    means = "measured" if network._is_measured("image_work") else "by formulas"
    return f"{means}; {min(ratios):.2f} to {max(ratios):.2f} of what torch counts"


def _encode_images(network: Backbone, inputs: Inputs, count: int) -> Encoded:
    return network._encode_images(inputs.alike(0, count).images)


def _encode_captions(network: Backbone, inputs: Inputs, item: int, count: int) -> Encoded:
    alike = inputs.alike(item, count)
    return network._encode_captions(alike.tokens, alike.lengths)


def _score_some(network: Backbone, images: Encoded, captions: Encoded, count: int) -> Tensor:
    return network._score(images.take(slice(0, count)), captions)


def _ratio(what: str, formula: int, make: Callable[[int], object]) -> float:
    """Return `formula`, the FLOPs of an item, over those that torch counts for one more item.

    Raises Failed if it is less, or more than what torch counts for an item of a batch.
    """
    with torch.no_grad():
        few, many = (counting(partial(make, count))[1] for count in (ITEMS, 2 * ITEMS))
    more, whole = (many - few) / ITEMS, few / ITEMS
    if not more / ROUNDING <= formula <= max(more, whole) * FIXED_SHARE:
        raise Failed(f"{what} is {formula:,} FLOPs, but torch counts {more:,.0f} for one more and {whole:,.0f} each")
    return formula / more if more else 1.0


def _update_cost(subject: BackboneUnderTest) -> str:
    network = subject.build().train()
    few, many = (_update(network, subject.inputs, count) for count in (ITEMS, 2 * ITEMS))
    charged, counted = (after - before for before, after in zip(few, many, strict=True))  # without what is fixed
    if counted > MAX_UNCHARGED * charged:
        raise Failed(f"for more pairs in an update, torch counts {counted:,} FLOPs, but {charged:,} are charged")
    if charged > MAX_CHARGED * counted:
        raise Failed(
            f"for more pairs in an update, {charged:,} FLOPs are charged, but torch counts {counted:,}: are there "
            "frozen layers?"
        )
    return f"torch counts {counted / charged:.2f} of what an update is charged"


def _update(network: Backbone, inputs: Inputs, count: int) -> tuple[int, int]:
    """Return the FLOPs charged for an update with `count` pairs, and those that torch counts."""
    charged = 0

    def charge(flops: int, pairs: int = 0, samples: int = 0) -> None:
        nonlocal charged
        charged += flops

    network.on_work = charge
    alike = inputs.alike(len(inputs.images) - 1, count)  # no padding, which formulas do not count
    with ProductCounter() as counter:
        scores = network(alike.images, alike.tokens, alike.lengths)
        losses.hinge_mean(scores, 0.2).backward()  # type: ignore[no-untyped-call]
    return charged, counter.flops


COSTS = Check(
    "costs",
    "the FLOPs of a pass are what torch counts",
    "correct the formula, or leave it out: costs are then measured",
    _costs,
    SCORED,
)
UPDATE_COST = Check(
    "update-cost",
    "the FLOPs charged for an update are about what torch counts",
    "leave out formulas, or override frozen_image_work and frozen_caption_work for layers that are not trained",
    _update_cost,
    (*SCORED, "costs"),
)
