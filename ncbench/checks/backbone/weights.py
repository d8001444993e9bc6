"""Checks of weights: that there are some, that gradients reach them, and that they can be recorded."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from ncbench.backbones.base import Backbone
from ncbench.backbones.registry import backbone_class
from ncbench.backbones.released.names import BATCH_COUNTER
from ncbench.checks.backbone.subject import SCORED, BackboneUnderTest, scores_of
from ncbench.checks.verdicts import Check, Failed
from ncbench.plugins.discovery import NAME
from ncbench.runtime.rng_state import seed_all

UPDATES = 3


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


def _seeded(subject: BackboneUnderTest) -> str:
    one, other = subject.build(7), subject.build(7)
    for (name, weight), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        if not torch.equal(weight, again):
            raise Failed(f"two networks built with the same seed differ in {name}")
    for mode in (False, True):
        scores = []
        for network in (one.train(mode), other.train(mode)):
            seed_all(3)
            scores.append(scores_of(network, subject.inputs))
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
    if not torch.equal(scores_of(other, subject.inputs), scores_of(subject.network, subject.inputs)):
        raise Failed("a network with the weights of another gives other similarities: some state is not in state_dict")
    return f"{len(weights)} tensors, {sum(value.nbytes for value in weights.values()) / 2**20:.1f} MiB"


BUILDS = Check("builds", "it can be built, and has weights to train", "call super().__init__(sizes) first", _builds)
GRADIENTS = Check(
    "gradients",
    "gradients reach all weights that can be trained",
    "remove weights that are not used, or freeze them with requires_grad_(False)",
    _gradients,
    SCORED,
)
SEEDED = Check(
    "seeded",
    "weights and similarities follow from the seed",
    "draw from torch's global generator only",
    _seeded,
    SCORED,
)
STATE = Check(
    "state",
    "the weights can be recorded, and loaded into another network",
    "keep all state in parameters and floating-point buffers; clone tensors that share memory, and register others "
    "with persistent=False",
    _state,
    (*SCORED, "seeded"),
)
