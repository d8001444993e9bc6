"""Backbones without weights, for their costs and shapes, by name."""

from __future__ import annotations

from collections.abc import Mapping

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import BACKBONES, backbone_class
from ncbench.backbones.weightless import weightless
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError, error_with_location


def outline(name: str, sizes: Sizes) -> Backbone:
    """Return a backbone on the meta device, whose weights have shapes but no values. Raises UserError.

    One that cannot be built without values is on the CPU.
    """
    return weightless(backbone_class(name), sizes)


def check_builds(name: str, dataset: Dataset, chosen: Mapping[str, float]) -> None:
    """Raise UserError unless a plugin can be built for `dataset` with the sizes `chosen`, and its costs are known."""
    if name in BACKBONES:
        return
    sizes = Sizes.of(dataset, chosen)
    length = int(dataset.splits["train"].captions.lengths.max(initial=1))
    try:
        network = outline(name, sizes)
        costs = [
            network.image_work(sizes.n_regions),
            network.caption_work(length),
            network.pair_work(sizes.n_regions, length),
        ]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"backbone {name!r} cannot be built for {dataset.name}: {error_with_location(error)}"
        ) from error
    if min(costs) < 0 or not all(isinstance(cost, int) for cost in costs):
        raise UserError(f"backbone {name!r}: FLOPs must be integers of at least 0, found {', '.join(map(str, costs))}")
