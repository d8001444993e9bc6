"""Checks of encodings and similarities: their shapes and values, and that they do not depend on the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ncbench.backbones.base import Encoded
from ncbench.checks.backbone.subject import BUILT, SCORED, BackboneUnderTest, encode, scores_of
from ncbench.checks.verdicts import Check, Failed, Skipped

TOLERANCE = 1e-4
"""Largest difference between two similarities that should be equal, over the largest similarity."""

HEAD_UNITS = 4
"""Hidden units of the head that a backbone is asked for."""


def _shapes(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    count = len(inputs.images)
    few = max(1, count - 3)
    with torch.no_grad():
        images, captions = encode(network, inputs)
        for what, encoded in (("_encode_images", images), ("_encode_captions", captions)):
            if not isinstance(encoded, Encoded) or not encoded.parts:
                raise Failed(f"{what} returned {type(encoded).__name__}, expected Encoded with tensors")
            firsts = {len(part) for part in encoded.parts}
            if firsts != {count}:
                raise Failed(f"{what} returned tensors of {sorted(firsts)} items for {count}")
        if len(network._lengths(captions)) != count:
            raise Failed(f"_lengths returned {len(network._lengths(captions))} lengths for {count} captions")
        _expect("_score", network.score(images, captions.take(slice(0, few))), (count, few))
        _expect("_score_each", network.score_each(images, captions), (count,))
    return f"similarities ({count}, {few}) of {count} images and {few} captions, and ({count},) of pairs"


def _expect(what: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape or found.dtype != torch.float32:
        raise Failed(f"{what} returned {found.dtype} {tuple(found.shape)}, expected torch.float32 {shape}")


def _finite(subject: BackboneUnderTest) -> str:
    scores = scores_of(subject.network, subject.inputs)
    if not scores.isfinite().all():
        raise Failed(f"{int((~scores.isfinite()).sum())} of {scores.numel()} similarities are not finite")
    if subject.network.IN_UNIT_INTERVAL and not ((scores >= 0) & (scores <= 1)).all():
        raise Failed(f"IN_UNIT_INTERVAL is set, but similarities are from {scores.min():.3g} to {scores.max():.3g}")
    if float(scores.std()) <= TOLERANCE * float(scores.abs().max()):
        raise Failed(f"all similarities are {scores.flatten()[0]:.4g}, whatever the image and the caption")
    return f"similarities from {scores.min():.3f} to {scores.max():.3f}"


def _independent(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    whole, count = scores_of(network, inputs), len(inputs.images)
    backwards = list(reversed(range(count)))
    alone = torch.stack([scores_of(network, inputs.take([item]))[0, 0] for item in range(count)])
    changed = {
        "in a batch of one": _difference(whole.diagonal(), alone),
        "in another order": _difference(whole, scores_of(network, inputs.take(backwards)).flip(0, 1)),
    }
    for how, difference in changed.items():
        if difference > TOLERANCE:
            raise Failed(f"in evaluation mode, similarities differ by {difference:.2g} {how}")
    return f"similarities differ by at most {max(changed.values()):.1g} between batches"


def _difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, over the largest similarity."""
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def _diagonal(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    with torch.no_grad():
        each = network.score_each(*encode(network, inputs))
    difference = _difference(scores_of(network, inputs).diagonal(), each)
    if difference > TOLERANCE:
        raise Failed(f"_score_each differs from the diagonal of _score by {difference:.2g}")
    return f"they differ by at most {difference:.1g}"


def _within(subject: BackboneUnderTest) -> str:
    network, count = subject.network, len(subject.inputs.images)
    if "within" not in network.ABILITIES:
        raise Skipped('ABILITIES does not name "within"')
    with torch.no_grad():
        images, captions = encode(network, subject.inputs)
        few = slice(0, max(1, count - 3))
        _expect("_score_images", network.score_images(images, images.take(few)), (count, few.stop))
        _expect("_score_captions", network.score_captions(captions, captions.take(few)), (count, few.stop))
    return "images are scored against images, captions against captions"


def _head(subject: BackboneUnderTest) -> str:
    if "head" not in subject.network.ABILITIES:
        raise Skipped('ABILITIES does not name "head"')
    network = subject.build(head=HEAD_UNITS).eval()
    if not isinstance(network.head, torch.nn.Module):
        raise Failed(f"with a head of {HEAD_UNITS} units, `head` is {type(network.head).__name__}, expected a module")
    scores = scores_of(network, subject.inputs)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise Failed(f"with a head, similarities are from {scores.min():.3g} to {scores.max():.3g}, outside [0, 1]")
    return f"with a head of {HEAD_UNITS} units, similarities from {scores.min():.3f} to {scores.max():.3f}"


SHAPES = Check(
    "shapes",
    "it encodes images and captions, and scores all pairs, or pair by pair",
    "return Encoded((tensor, ...)) with one row per item, and similarities (images, captions) float32",
    _shapes,
    BUILT,
)
FINITE = Check(
    "finite",
    "similarities are finite, and differ",
    "look for divisions by zero, logarithms of zero, and inputs that are not used",
    _finite,
    (*BUILT, "shapes"),
)
INDEPENDENT = Check(
    "independent",
    "in evaluation mode, a similarity does not depend on what else is in the batch, or on padding",
    "mask the padding of captions by `lengths`; use no statistics of the batch in evaluation mode",
    _independent,
    SCORED,
)
DIAGONAL = Check(
    "diagonal",
    "in evaluation mode, the similarities of pairs are the diagonal of all similarities",
    "leave out _score_each, or compute the same as _score",
    _diagonal,
    SCORED,
)
WITHIN = Check(
    "within",
    'with the ability "within": images are scored against images, captions against captions',
    "implement _score_images and _score_captions, or derive from VectorBackbone",
    _within,
    SCORED,
)
HEAD = Check(
    "head",
    'with the ability "head": a method can ask for the network that scores a pair',
    "set `head` to ncbench.backbones.head.pair_head(...) if sizes.head is given",
    _head,
    SCORED,
)
