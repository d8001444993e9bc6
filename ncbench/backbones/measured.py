"""What passes of a backbone cost, measured: for backbones that give no formulas.

Each kind of pass is made once, for a few items of one size, and torch counts its products (`ncbench.runtime.products`).
The network of the probe is a copy without weights, on the meta device, so that counting takes milliseconds and the same
numbers are found on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ncbench.backbones.weightless import weightless, with_weights
from ncbench.errors import UserError, error_with_location
from ncbench.runtime.products import ProductCounter, tensors_in
from ncbench.runtime.rng_state import host_generators_kept

if TYPE_CHECKING:
    from ncbench.backbones.base import Backbone, Encoded, Sizes

PROBED = 4
"""Images and captions in a probe. What a pass computes once, whatever the number of items, counts by so much less."""

LIVE_TENSORS = 4
"""How many tensors as large as the largest of a pass are assumed to be in memory at a time."""

WORD = 4
"""The word that the captions of a probe repeat: the first that is no special token."""


@dataclass(frozen=True)
class Cost:
    """The cost of a pass for one item: FLOPs, those of frozen layers among them, peak memory and result in bytes."""

    flops: int
    frozen: int
    peak: int
    size: int


class Measured:
    """The costs of `kind` at these sizes, each measured when it is first asked for.

    Raises UserError if a pass fails.
    """

    def __init__(self, kind: type[Backbone], sizes: Sizes) -> None:
        self._kind, self._sizes = kind, sizes
        self._network: Backbone | None = None
        self._known: dict[tuple[object, ...], Cost] = {}
        self._lock = RLock()  # scores are computed in several threads

    def image(self, n_regions: int) -> Cost:
        """Return the cost of encoding an image."""
        return self._cost(("image", n_regions), PROBED, lambda network: lambda: self._images(network, n_regions))

    def caption(self, length: int) -> Cost:
        """Return the cost of encoding a caption of `length` tokens."""
        return self._cost(("caption", length), PROBED, lambda network: lambda: self._captions(network, length))

    def pair(self, n_regions: int, length: int) -> Cost:
        """Return the cost of scoring an encoded image against an encoded caption."""

        def prepare(network: Backbone) -> Callable[[], Tensor]:
            images, captions = self._images(network, n_regions), self._captions(network, length)
            return lambda: network._score(images, captions)

        return self._cost(("pair", n_regions, length), PROBED**2, prepare)

    def image_pair(self, n_regions: int) -> Cost:
        """Return the cost of scoring an encoded image against another."""

        def prepare(network: Backbone) -> Callable[[], Tensor]:
            images = self._images(network, n_regions)
            return lambda: network._score_images(images, images)

        return self._cost(("images", n_regions), PROBED**2, prepare)

    def caption_pair(self, length: int, other_length: int) -> Cost:
        """Return the cost of scoring an encoded caption against another."""

        def prepare(network: Backbone) -> Callable[[], Tensor]:
            captions, others = self._captions(network, length), self._captions(network, other_length)
            return lambda: network._score_captions(captions, others)

        return self._cost(("captions", length, other_length), PROBED**2, prepare)

    def _cost(
        self, key: tuple[object, ...], items: int, prepare: Callable[[Backbone], Callable[[], Encoded | Tensor]]
    ) -> Cost:
        with self._lock:
            if key not in self._known:
                try:
                    self._known[key] = self._measure(items, prepare)
                except UserError:
                    raise
                except Exception as error:
                    words = " ".join(map(str, key))
                    raise UserError(
                        f"backbone {self._kind.name!r}: the FLOPs of a pass ({words}) cannot be measured: "
                        f"{error_with_location(error)}"
                    ) from error
            return self._known[key]

    def _measure(self, items: int, prepare: Callable[[Backbone], Callable[[], Encoded | Tensor]]) -> Cost:
        # No other counter sees the probe: that of an audit, in an update in which a length is new.
        with host_generators_kept(), _disable_current_modes(), torch.enable_grad():
            if self._network is None:
                self._network = weightless(self._kind, self._sizes).eval()
            if next(self._network.parameters()).is_meta:
                try:
                    return _counted(prepare(self._network), items)
                except Exception:  # it looks at values
                    self._network = with_weights(self._kind, self._sizes).eval()
            return _counted(prepare(self._network), items)

    def _images(self, network: Backbone, n_regions: int) -> Encoded:
        device = next(network.parameters()).device
        return network._encode_images(torch.zeros(PROBED, n_regions, self._sizes.image_dim, device=device))

    def _captions(self, network: Backbone, length: int) -> Encoded:
        device, length = next(network.parameters()).device, max(1, length)
        lengths = torch.full((PROBED,), length)
        if self._sizes.vector_dim:
            return network._encode_captions(torch.zeros(PROBED, self._sizes.vector_dim, device=device), lengths)
        word = min(WORD, self._sizes.vocabulary - 1)
        return network._encode_captions(torch.full((PROBED, length), word, device=device), lengths)


class _LargestTensor(ProductCounter):  # type: ignore[no-untyped-call]
    """Counts products, and remembers the size of the largest tensor that was made, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = super().__torch_dispatch__(func, types, args, kwargs)
        self.largest = max([self.largest, *(tensor.nbytes for tensor in tensors_in(found))])
        return found


def _counted(make_pass: Callable[[], Encoded | Tensor], items: int) -> Cost:
    with _LargestTensor() as counter:
        found = make_pass()
    parts = (found,) if isinstance(found, Tensor) else found.parts
    sums = (counter.flops, counter.frozen, LIVE_TENSORS * counter.largest, sum(part.nbytes for part in parts))
    return Cost(*(-(-total // items) for total in sums))


@lru_cache(maxsize=64)
def measured(kind: type[Backbone], sizes: Sizes) -> Measured:
    """Return the costs of a kind of backbone, the same object for the same sizes."""
    return Measured(kind, sizes)
