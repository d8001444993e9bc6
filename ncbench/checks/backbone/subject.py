"""The backbone that is checked, and the images and captions it is checked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.registry import backbone_class
from ncbench.data.dataset import Dataset
from ncbench.runtime.rng_state import seed_all

ITEMS = 8
"""Images, and captions, of the batch that checks are made with."""

BUILT, SCORED = ("builds",), ("builds", "shapes", "finite")
"""The checks without which one of a network, or one of its similarities, says nothing."""


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


def encode(network: Backbone, inputs: Inputs) -> tuple[Encoded, Encoded]:
    """Return all encoded images and captions."""
    return network.encode_images(inputs.images), network.encode_captions(inputs.tokens, inputs.lengths)


@torch.no_grad()
def scores_of(network: Backbone, inputs: Inputs) -> Tensor:
    """Return the similarities (I, I) of all images and captions, without gradients."""
    return network.score(*encode(network, inputs))
