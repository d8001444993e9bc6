"""Trained networks from files: checkpoints that papers released, and the records of runs.

The released codes differ in how they lay out a file (L2RM one flat dict, SGRAF a list of three, NCR two such lists) and
agree on the names inside; a network is therefore known by its names, wherever in the file it lies. Networks come in two
steps: `read_checkpoint` does all that needs no dataset, `build` the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.released import names
from ncbench.backbones.released.torch_file import read_torch_file
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError

# Batch norms count their batches, which evaluation does not use and older codes did not save: no weight here.
COUNTER = "num_batches_tracked"

Weights = Mapping[str, Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint(ABC):
    """Networks that were read from `path`: per network, the backbone that it is and its weights under our names."""

    path: Path
    kinds: Sequence[str]
    weights: Sequence[Weights]
    epoch: int | None

    def build(self, dataset: Dataset) -> list[Backbone]:
        """Return the networks on the CPU, in the order of the file. Raises UserError if they do not fit `dataset`."""
        built = []
        for kind, sizes, weights in zip(self.kinds, self._sizes(dataset), self.weights, strict=True):
            _check_shapes(self.path, kind, weight_shapes(kind, sizes), weights)
            backbone = build_backbone(kind, sizes)
            backbone.load_state_dict(weights, strict=False)  # counters apart, nothing lacks
            built.append(backbone)
        return built

    @abstractmethod
    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        """Return the sizes of every network. Raises UserError if they were trained for anything but `dataset`."""


@dataclass(frozen=True)
class PublishedCheckpoint(Checkpoint):
    """A checkpoint written by one of the released codes."""

    sizes: Sequence[Sizes]

    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        words = len(dataset.vocabulary)
        for sizes in self.sizes:
            if sizes.vocabulary not in (words, words + 1):  # the row of <mask> is the last, and never looked up
                raise UserError(
                    f"{self.path}: vocabulary of {sizes.vocabulary} words, dataset {dataset.name} has {words} "
                    f"(or {words + 1} with <mask>); was it trained on another data set?"
                )
            if (sizes.n_regions, sizes.image_dim) != (dataset.n_regions, dataset.image_dim):
                raise UserError(
                    f"{self.path}: images of {sizes.n_regions} regions by {sizes.image_dim} dimensions, dataset "
                    f"{dataset.name} has {dataset.n_regions} by {dataset.image_dim}; was it trained on other features?"
                )
        return self.sizes


def read_published(path: Path) -> PublishedCheckpoint:
    """Return the SGR and SAF networks in a checkpoint of a released code. Raises UserError as `read_checkpoint`."""
    content = read_torch_file(path)
    networks = list(_networks(content))
    if not networks:
        beginnings = ", ".join(f"{beginning}*" for beginning in names.ENCODERS)
        raise UserError(
            f"{path}: holds no SGR or SAF network ({_described(content)}); right would be weights called {beginnings}, "
            "or a list of the weights of these three encoders"
        )
    weights = _tensors(path, networks)
    kinds = [_kind(path, network) for network in weights]
    sizes = [_published_sizes(path, network) for network in weights]
    for kind, size, network in zip(kinds, sizes, weights, strict=True):
        shapes = weight_shapes(kind, size)
        _check_shapes(path, kind, {names.published_name(name): shapes[name] for name in shapes}, network)
        check_values(path, network)
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    ours = [names.rename_published(network) for network in weights]
    return PublishedCheckpoint(path, kinds, ours, epoch if type(epoch) is int else None, sizes)


def _networks(content: object, depth: int = 2) -> Iterator[dict[str, object]]:
    """Yield the networks in `content`, in order: it is one, or it holds some, or dicts or lists of some."""
    members = list(content.values()) if isinstance(content, Mapping) else content
    if _is_state(content) and _is_network(whole := _plain(content)):
        yield whole
    elif not isinstance(members, list | tuple):
        return
    elif _is_triple(content):
        parts = zip(names.ENCODERS, map(_plain, content), strict=True)
        yield {start + name: weight for start, part in parts for name, weight in part.items()}
    elif depth:
        for member in members:
            yield from _networks(member, depth - 1)


def _is_state(content: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether `content` is what a module's `state_dict` may have been."""
    return (
        isinstance(content, Mapping)
        and all(isinstance(name, str) for name in content)
        and any(isinstance(weight, Tensor) for weight in content.values())
    )


def _is_triple(content: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    """Return whether `content` is a list of the weights of three modules, which are no networks themselves."""
    return (
        isinstance(content, list | tuple)
        and len(content) == len(names.ENCODERS)
        and all(_is_state(part) and not _is_network(_plain(part)) for part in content)
    )


def _is_network(weights: Mapping[str, object]) -> bool:
    return all(any(name.startswith(start) for name in weights) for start in names.ENCODERS)


def _plain(weights: Mapping[str, object]) -> dict[str, object]:
    """Return `weights` without the `module.` that DataParallel puts into names."""
    return {".".join(part for part in name.split(".") if part != "module"): w for name, w in weights.items()}


def _described(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"it is of type {type(content).__name__}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:6]) + (", ..." if len(content) > 6 else "")
    return f"its keys are {keys}" if keys else "it is empty"


def _tensors(path: Path, networks: Sequence[Mapping[str, object]]) -> list[Weights]:
    """Return `networks` if they hold tensors only, and no more than the file can. Raises UserError."""
    checked: list[Weights] = []
    total = 0
    for network in networks:
        weights = {}
        for name, weight in network.items():
            if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.device.type != "cpu":
                raise UserError(
                    f"{path}: weight {name!r} is of type {type(weight).__name__}; it must be a dense tensor"
                )
            size, held = weight.numel() * weight.element_size(), weight.untyped_storage().nbytes()
            if size > held:
                raise UserError(f"{path}: weight {name!r} claims {size} bytes of {held} that are stored; it is damaged")
            total += size
            if not name.endswith(COUNTER):
                weights[name] = weight
        checked.append(weights)
    if total > path.stat().st_size:
        raise UserError(f"{path}: claims {total} bytes of weights in a file of {path.stat().st_size}; it is damaged")
    return checked


def _kind(path: Path, network: Weights) -> str:
    """Return which backbone a published network is. Raises UserError unless it is exactly one."""
    kinds = [kind for kind, start in names.HEADS.items() if any(name.startswith(start) for name in network)]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        starts = " and ".join(f"{start}*" for start in names.HEADS.values())
        raise UserError(
            f"{path}: of the weights {starts} it holds {found}; right would be one: only SGR and SAF are supported"
        )
    return kinds[0]


def _published_sizes(path: Path, network: Weights) -> Sizes:
    """Return the sizes that the shapes of a published network show. Raises UserError for weights that show none."""
    sizes = {}
    for size, (name, axis) in names.SIZES.items():
        if name not in network:
            raise UserError(f"{path}: lacks the weight {name!r}, which every SGR and SAF network has")
        shape = tuple(network[name].shape)
        if len(shape) <= axis or 0 in shape:
            raise UserError(f"{path}: weight {name!r} has shape {shape}, which gives no size; right would be above 0")
        sizes[size] = shape[axis]
    return Sizes(**sizes)


def weight_shapes(kind: str, sizes: Sizes) -> dict[str, Shape]:
    """Return the shape of every weight of a backbone, by our names."""
    with torch.device("meta"):
        weights = build_backbone(kind, sizes).state_dict()
    return {name: tuple(weight.shape) for name, weight in weights.items() if not name.endswith(COUNTER)}


def _check_shapes(path: Path, kind: str, right: Mapping[str, Shape], found: Weights) -> None:
    """Raise UserError unless `found` has the weights of `right` and no others, in these shapes."""
    name_of_kind = kind.upper()
    for name in found:
        if name not in right:
            raise UserError(
                f"{path}: holds the weight {name!r}, which no {name_of_kind} has; this kind of network is not supported"
            )
    for name, shape in right.items():
        if name not in found:
            raise UserError(f"{path}: lacks the weight {name!r}, which every {name_of_kind} has, here of shape {shape}")
        if tuple(found[name].shape) != shape:
            raise UserError(f"{path}: weight {name!r} has shape {tuple(found[name].shape)}; right would be {shape}")


def check_values(path: Path, weights: Weights) -> None:
    """Raise UserError unless all `weights` are finite floating-point numbers."""
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise UserError(f"{path}: weight {name!r} holds {weight.dtype}; right would be floating-point numbers")
        if not weight.float().isfinite().all():
            raise UserError(f"{path}: weight {name!r} holds NaN or infinity; was it saved after training diverged?")
