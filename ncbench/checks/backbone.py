"""Checks of a backbone: its encodings and scores, its gradients, its costs, and that it can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.outline import check_builds
from ncbench.backbones.registry import backbone_class, check_captions, resolve
from ncbench.backbones.released.names import BATCH_COUNTER
from ncbench.checks.verdicts import Check, Failed, Skipped, Verdict, judge
from ncbench.data.dataset import Dataset
from ncbench.method import losses
from ncbench.plugins.discovery import NAME
from ncbench.runtime.products import ProductCounter, counting
from ncbench.runtime.rng_state import seed_all
from ncbench.training.audit import MAX_UNCHARGED

ITEMS = 8
"""Images, and captions, of the batch that checks are made with."""

HEAD = 4
UPDATES = 3
TOLERANCE = 1e-4
"""Largest difference between two similarities that should be equal, over the largest similarity."""

ROUNDING = 1.02
FIXED_SHARE = 1.10
"""A formula may count this much more than torch does in a batch, for what a pass computes once."""

MAX_CHARGED = 2.5
"""FLOPs charged for an update over those that torch counts. Layers that read the input have one product fewer in the
backward pass, so a ratio of 1.5 is usual for small networks."""


@dataclass
class BackboneUnderTest:
    """A backbone, by its full name, with a dataset to build it for, and sizes."""

    name: str
    dataset: Dataset
    sizes: Sizes = field(init=False)
    chosen: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = Sizes.of(self.dataset, {**self.dataset.scale, **self.chosen})

    def build(self, seed: int = 0, head: int = 0) -> Backbone:
        """Return a network whose weights follow from `seed`."""
        seed_all(seed)
        return backbone_class(self.name)(replace(self.sizes, head=head))

    @cached_property
    def network(self) -> Backbone:
        """A network in evaluation mode."""
        return self.build().eval()

    @cached_property
    def inputs(self) -> Inputs:
        """Images and captions of the training split: as many lengths of captions as there are."""
        train = self.dataset.splits["train"]
        _, firsts = np.unique(train.true, return_index=True)
        ordered = firsts[np.argsort(train.captions.lengths[firsts], kind="stable")]
        captions = ordered[np.linspace(0, len(ordered) - 1, min(ITEMS, len(ordered))).astype(int)]
        tokens, lengths = train.captions.padded(captions)
        images = train.images.take(train.true[captions])
        return Inputs(torch.from_numpy(images), torch.from_numpy(tokens), torch.from_numpy(lengths))


@dataclass(frozen=True)
class Inputs:
    """Images (I, R, D) and captions: word ids (I, L) or vectors (I, T), and lengths (I,)."""

    images: Tensor
    tokens: Tensor
    lengths: Tensor

    def take(self, items: Sequence[int]) -> Inputs:
        """Return some images and captions; padding is cut off as in batches of a run."""
        chosen = torch.tensor(items)
        tokens, lengths = self.tokens[chosen], self.lengths[chosen]
        if not tokens.is_floating_point():
            tokens = tokens[:, : int(lengths.max())]
        return Inputs(self.images[chosen], tokens, lengths)

    def alike(self, item: int, count: int) -> Inputs:
        """Return the image and the caption `item`, `count` times."""
        return self.take([item] * count)


def _encoded(network: Backbone, inputs: Inputs) -> tuple[Encoded, Encoded]:
    return network.encode_images(inputs.images), network.encode_captions(inputs.tokens, inputs.lengths)


@torch.no_grad()
def _scores(network: Backbone, inputs: Inputs) -> Tensor:
    return network.score(*_encoded(network, inputs))


def _builds(subject: BackboneUnderTest) -> str:
    kind = backbone_class(subject.name)
    if not NAME.fullmatch(subject.name):
        raise Failed(f"{subject.name!r} is not a valid name; use letters, digits, '.', '_' and '-'")
    if kind.__init__ is not Backbone.__init__ and not hasattr(subject.network, "on_work"):
        raise Failed("its constructor does not call super().__init__(sizes)")
    trained = sum(weight.numel() for weight in subject.network.parameters() if weight.requires_grad)
    frozen = sum(weight.numel() for weight in subject.network.parameters()) - trained
    if not trained:
        raise Failed("it has no weights to train")
    return f"{trained:,} weights to train, {frozen:,} frozen"


def _shapes(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    count = len(inputs.images)
    few = max(1, count - 3)
    with torch.no_grad():
        images, captions = _encoded(network, inputs)
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
    scores = _scores(subject.network, subject.inputs)
    if not scores.isfinite().all():
        raise Failed(f"{int((~scores.isfinite()).sum())} of {scores.numel()} similarities are not finite")
    if subject.network.IN_UNIT_INTERVAL and not ((scores >= 0) & (scores <= 1)).all():
        raise Failed(f"IN_UNIT_INTERVAL is set, but similarities are from {scores.min():.3g} to {scores.max():.3g}")
    if float(scores.std()) <= TOLERANCE * float(scores.abs().max()):
        raise Failed(f"all similarities are {scores.flatten()[0]:.4g}, whatever the image and the caption")
    return f"similarities from {scores.min():.3f} to {scores.max():.3f}"


def _independent(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    whole, count = _scores(network, inputs), len(inputs.images)
    backwards = list(reversed(range(count)))
    alone = torch.stack([_scores(network, inputs.take([item]))[0, 0] for item in range(count)])
    changed = {
        "in a batch of one": _difference(whole.diagonal(), alone),
        "in another order": _difference(whole, _scores(network, inputs.take(backwards)).flip(0, 1)),
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
        each = network.score_each(*_encoded(network, inputs))
    difference = _difference(_scores(network, inputs).diagonal(), each)
    if difference > TOLERANCE:
        raise Failed(f"_score_each differs from the diagonal of _score by {difference:.2g}")
    return f"they differ by at most {difference:.1g}"


def _gradients(subject: BackboneUnderTest) -> str:
    network, inputs = subject.build().train(), subject.inputs
    wanted = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.Adam(wanted.values(), 1e-3)
    reached = set[str]()
    for number in range(UPDATES):  # weights that begin at zero can keep gradients from others
        scores = network(inputs.images, inputs.tokens, inputs.lengths)
        signs = torch.from_numpy(np.random.default_rng(number).normal(size=tuple(scores.shape))).float()
        optimiser.zero_grad()
        (signs * scores).sum().backward()
        for name, weight in wanted.items():
            if weight.grad is not None and not weight.grad.isfinite().all():
                raise Failed(f"the gradient of {name} is not finite")
            if weight.grad is not None and weight.grad.any():
                reached.add(name)
        optimiser.step()
    missing = [name for name in wanted if name not in reached]
    needed = [name for name in missing if not name.endswith("bias")]  # a softmax can cancel one
    if needed:
        more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise Failed(f"the similarities do not depend on {needed[0]}{more}, which can be trained")
    cancelled = f"; not {', '.join(missing)}" if missing else ""
    return f"reach {len(reached)} of {len(wanted)} weights that can be trained{cancelled}"


def _costs(subject: BackboneUnderTest) -> str:
    network, inputs = subject.network, subject.inputs
    n_regions = subject.sizes.n_regions
    ratios = [_ratio("image_work", network.image_work(n_regions), partial(_encode_images, network, inputs))]
    for item in sorted({0, len(inputs.images) - 1}):
        length = int(inputs.lengths[item])
        encode = partial(_encode_captions, network, inputs, item)
        ratios.append(_ratio(f"caption_work({length})", network.caption_work(length), encode))
        with torch.no_grad():
            images, captions = _encoded(network, inputs.alike(item, 2 * ITEMS))
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


def _seeded(subject: BackboneUnderTest) -> str:
    one, other = subject.build(7), subject.build(7)
    for (name, weight), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        if not torch.equal(weight, again):
            raise Failed(f"two networks built with the same seed differ in {name}")
    for mode in (False, True):
        scores = []
        for network in (one.train(mode), other.train(mode)):
            seed_all(3)
            scores.append(_scores(network, subject.inputs))
        if not torch.equal(*scores):
            raise Failed(f"with the same seed, similarities in {'training' if mode else 'evaluation'} mode differ")
    return "the same seed gives the same weights and similarities, bit by bit"


def _state(subject: BackboneUnderTest) -> str:
    weights = subject.network.state_dict()
    odd = [name for name, value in weights.items() if not (value.is_floating_point() or name.endswith(BATCH_COUNTER))]
    if odd:
        raise Failed(f"the state has {odd[0]} of {weights[odd[0]].dtype}; records hold floating-point weights only")
    try:
        kept = from_safetensors(to_safetensors(weights))
    except RuntimeError as error:
        raise Failed(f"its weights cannot be written as safetensors: {' '.join(str(error).split())[:200]}") from error
    other = subject.build(1).eval()
    other.load_state_dict(kept)
    if not torch.equal(_scores(other, subject.inputs), _scores(subject.network, subject.inputs)):
        raise Failed("a network with the weights of another gives other similarities: some state is not in state_dict")
    return f"{len(weights)} tensors, {sum(value.nbytes for value in weights.values()) / 2**20:.1f} MiB"


def _within(subject: BackboneUnderTest) -> str:
    network, count = subject.network, len(subject.inputs.images)
    if "within" not in network.ABILITIES:
        raise Skipped('ABILITIES does not name "within"')
    with torch.no_grad():
        images, captions = _encoded(network, subject.inputs)
        few = slice(0, max(1, count - 3))
        _expect("_score_images", network.score_images(images, images.take(few)), (count, few.stop))
        _expect("_score_captions", network.score_captions(captions, captions.take(few)), (count, few.stop))
    return "images are scored against images, captions against captions"


def _head(subject: BackboneUnderTest) -> str:
    if "head" not in subject.network.ABILITIES:
        raise Skipped('ABILITIES does not name "head"')
    network = subject.build(head=HEAD).eval()
    if not isinstance(network.head, torch.nn.Module):
        raise Failed(f"with a head of {HEAD} units, `head` is {type(network.head).__name__}, expected a module")
    scores = _scores(network, subject.inputs)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise Failed(f"with a head, similarities are from {scores.min():.3g} to {scores.max():.3g}, outside [0, 1]")
    return f"with a head of {HEAD} units, similarities from {scores.min():.3f} to {scores.max():.3f}"


BUILT, SCORED = ("builds",), ("builds", "shapes", "finite")
CHECKS: Sequence[Check[BackboneUnderTest]] = (
    Check("builds", "it can be built, and has weights to train", "call super().__init__(sizes) first", _builds),
    Check(
        "shapes",
        "it encodes images and captions, and scores all pairs, or pair by pair",
        "return Encoded((tensor, ...)) with one row per item, and similarities (images, captions) float32",
        _shapes,
        BUILT,
    ),
    Check(
        "finite",
        "similarities are finite, and differ",
        "look for divisions by zero, logarithms of zero, and inputs that are not used",
        _finite,
        (*BUILT, "shapes"),
    ),
    Check(
        "independent",
        "in evaluation mode, a similarity does not depend on what else is in the batch, or on padding",
        "mask the padding of captions by `lengths`; use no statistics of the batch in evaluation mode",
        _independent,
        SCORED,
    ),
    Check(
        "diagonal",
        "in evaluation mode, the similarities of pairs are the diagonal of all similarities",
        "leave out _score_each, or compute the same as _score",
        _diagonal,
        SCORED,
    ),
    Check(
        "gradients",
        "gradients reach all weights that can be trained",
        "remove weights that are not used, or freeze them with requires_grad_(False)",
        _gradients,
        SCORED,
    ),
    Check(
        "costs",
        "the FLOPs of a pass are what torch counts",
        "correct the formula, or leave it out: costs are then measured",
        _costs,
        SCORED,
    ),
    Check(
        "update-cost",
        "the FLOPs charged for an update are about what torch counts",
        "leave out formulas, or override frozen_image_work and frozen_caption_work for layers that are not trained",
        _update_cost,
        (*SCORED, "costs"),
    ),
    Check(
        "seeded",
        "weights and similarities follow from the seed",
        "draw from torch's global generator only",
        _seeded,
        SCORED,
    ),
    Check(
        "state",
        "the weights can be recorded, and loaded into another network",
        "keep all state in parameters and floating-point buffers; clone tensors that share memory, and register others "
        "with persistent=False",
        _state,
        (*SCORED, "seeded"),
    ),
    Check(
        "within",
        'with the ability "within": images are scored against images, captions against captions',
        "implement _score_images and _score_captions, or derive from VectorBackbone",
        _within,
        SCORED,
    ),
    Check(
        "head",
        'with the ability "head": a method can ask for the network that scores a pair',
        "set `head` to ncbench.backbones.head.pair_head(...) if sizes.head is given",
        _head,
        SCORED,
    ),
)


def check_backbone_named(
    text: str, dataset: Dataset, chosen: Mapping[str, float] | None = None
) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a backbone, given by name or file path, built for `dataset` with the sizes `chosen`.

    Raises UserError for a backbone that is unknown, cannot be built, or cannot read the captions.
    """
    name = resolve(text)
    check_captions(name, dataset)
    check_builds(name, dataset, {**dataset.scale, **(chosen or {})})
    yield from judge(CHECKS, BackboneUnderTest(name, dataset, chosen or {}))
