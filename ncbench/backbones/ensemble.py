"""SGRAF: the mean of an SGR and an SAF network (Diao et al., AAAI 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from ncbench.backbones.base import Backbone, Encoded, Sizes
from ncbench.backbones.graph import SGR
from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import build_backbone, members_of


class SGRAF(Backbone):
    """An SGR and an SAF network, each with its own encoders; similarities are their mean, in (0, 1).

    As published, the members are trained separately (see `ncbench.backbones.members_of`). This class scores with the
    trained members and adds up their costs. Encodings are the parts of SGR followed by those of SAF.
    """

    IN_UNIT_INTERVAL = True
    HAS_BF16 = True
    ABILITIES = frozenset({"within"})
    PRESETS = SGR.PRESETS

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.members = nn.ModuleList(build_backbone(name, sizes) for name in members_of("sgraf"))

    def use_precision(self, precision: Precision) -> None:
        """Compute matrix products of both members in `precision` from now on."""
        super().use_precision(precision)
        for network in self._networks:
            network.use_precision(precision)

    @property
    def _networks(self) -> list[Backbone]:
        return [cast(Backbone, member) for member in self.members]

    # The underscored methods of members report no work: the public methods of this class report it for both.

    def _encode_images(self, images: Tensor) -> Encoded:
        encoded = [network._encode_images(images) for network in self._networks]
        return Encoded(tuple(part for member in encoded for part in member.parts))

    def _encode_captions(self, tokens: Tensor, lengths: Tensor) -> Encoded:
        encoded = [network._encode_captions(tokens, lengths) for network in self._networks]
        return Encoded(tuple(part for member in encoded for part in member.parts))

    def _score(self, images: Encoded, captions: Encoded) -> Tensor:
        return torch.stack([net._score(*pair) for net, *pair in self._matched(images, captions)]).mean(0)

    def _score_images(self, images: Encoded, others: Encoded) -> Tensor:
        return torch.stack([net._score_images(*pair) for net, *pair in self._matched(images, others)]).mean(0)

    def _score_captions(self, captions: Encoded, others: Encoded) -> Tensor:
        return torch.stack([net._score_captions(*pair) for net, *pair in self._matched(captions, others)]).mean(0)

    def _matched(self, left: Encoded, right: Encoded) -> Iterator[tuple[Backbone, Encoded, Encoded]]:
        return zip(self._networks, self._split(left), self._split(right), strict=True)

    def _lengths(self, captions: Encoded) -> list[int]:
        return self._networks[0]._lengths(self._split(captions)[0])

    def _split(self, encoded: Encoded) -> list[Encoded]:
        """Return the encodings of the members; each member has the same number of parts."""
        each = len(encoded.parts) // len(self.members)
        return [Encoded(encoded.parts[first : first + each]) for first in range(0, len(encoded.parts), each)]

    def image_work(self, n_regions: int) -> int:
        """Return the FLOPs of encoding one image: the sum over the members."""
        return sum(network.image_work(n_regions) for network in self._networks)

    def caption_work(self, length: int) -> int:
        """Return the FLOPs of encoding one caption of `length` tokens: the sum over the members."""
        return sum(network.caption_work(length) for network in self._networks)

    def pair_work(self, n_regions: int, length: int) -> int:
        """Return the FLOPs of scoring one encoded image against one encoded caption: the sum over the members."""
        return sum(network.pair_work(n_regions, length) for network in self._networks)

    def image_pair_work(self, n_regions: int) -> int:
        """Return the FLOPs of scoring one encoded image against another: the sum over the members."""
        return sum(network.image_pair_work(n_regions) for network in self._networks)

    def caption_pair_work(self, length: int, other_length: int) -> int:
        """Return the FLOPs of scoring one encoded caption against another: the sum over the members."""
        return sum(network.caption_pair_work(length, other_length) for network in self._networks)

    def pair_bytes(self, n_regions: int, length: int) -> int:
        """Return the estimated peak memory, in bytes, of scoring one pair: the members score one after the other."""
        return max(network.pair_bytes(n_regions, length) for network in self._networks)
