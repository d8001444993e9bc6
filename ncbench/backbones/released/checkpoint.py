"""Checkpoints of trained networks, in particular those that papers released.

The released repositories agree on the names of weights but not on the layout of the file: L2RM saves one flat dict,
SGRAF a list of three dicts, NCR two such lists. Networks are therefore found by the names of their weights, anywhere in
the file. `read_published` does everything that needs no dataset, `Checkpoint.build` the rest.
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

BATCH_COUNTER = "num_batches_tracked"
"""A buffer of batch norms that is ignored: evaluation does not use it, and older versions of torch did not save it."""

Weights = Mapping[str, Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint(ABC):
    """The networks read from `path`: for each, the name of its backbone and its weights under ncbench's names."""

    path: Path
    kinds: Sequence[str]
    weights: Sequence[Weights]
    epoch: int | None

    def build(self, dataset: Dataset) -> list[Backbone]:
        """Return the networks on the CPU, in file order. Raises UserError if they do not match `dataset`."""
        built = []
        for kind, sizes, weights in zip(self.kinds, self._sizes(dataset), self.weights, strict=True):
            _check_shapes(self.path, kind, weight_shapes(kind, sizes), weights)
            backbone = build_backbone(kind, sizes)
            backbone.load_state_dict(weights, strict=False)  # only batch counters are missing
            built.append(backbone)
        return built

    @abstractmethod
    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        """Return the sizes of each network. Raises UserError if they do not match `dataset`."""


@dataclass(frozen=True)
class PublishedCheckpoint(Checkpoint):
    """A checkpoint written by a paper's released code."""

    sizes: Sequence[Sizes]

    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        words = len(dataset.vocabulary)
        for sizes in self.sizes:
            if sizes.vocabulary not in (words, words + 1):  # the last row may be <mask>, which is never looked up
                raise UserError(
                    f"{self.path}: has a vocabulary of {sizes.vocabulary} words, expected {words} "
                    f"(or {words + 1} with <mask>) for dataset {dataset.name}; was it trained on another dataset?"
                )
            if (sizes.n_regions, sizes.image_dim) != (dataset.n_regions, dataset.image_dim):
                raise UserError(
                    f"{self.path}: expects images of {sizes.n_regions} regions by {sizes.image_dim} dimensions, "
                    f"but dataset {dataset.name} has {dataset.n_regions} by {dataset.image_dim}; "
                    "was it trained on other features?"
                )
        return self.sizes


def read_published(path: Path) -> PublishedCheckpoint:
    """Return the SGR and SAF networks in a paper's released checkpoint. Raises UserError for any other file."""
    content = read_torch_file(path)
    networks = list(_networks(content))
    if not networks:
        prefixes = ", ".join(f"{prefix}*" for prefix in names.ENCODERS)
        raise UserError(
            f"{path}: no SGR or SAF network found ({_describe(content)}); expected weights named {prefixes}, "
            "or a list of the state dicts of these three encoders"
        )
    weights = _checked_tensors(path, networks)
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
    """Yield the networks in `content` in order: `content` itself, or those in it, nested up to `depth` levels deep."""
    members = list(content.values()) if isinstance(content, Mapping) else content
    if _is_state_dict(content) and _is_network(whole := _without_module_prefix(content)):
        yield whole
    elif not isinstance(members, list | tuple):
        return
    elif _is_triple(content):
        parts = zip(names.ENCODERS, map(_without_module_prefix, content), strict=True)
        yield {prefix + name: weight for prefix, part in parts for name, weight in part.items()}
    elif depth:
        for member in members:
            yield from _networks(member, depth - 1)


def _is_state_dict(content: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether `content` looks like the `state_dict` of a module."""
    return (
        isinstance(content, Mapping)
        and all(isinstance(name, str) for name in content)
        and any(isinstance(weight, Tensor) for weight in content.values())
    )


def _is_triple(content: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    """Return whether `content` is a list of the state dicts of the three encoders."""
    return (
        isinstance(content, list | tuple)
        and len(content) == len(names.ENCODERS)
        and all(_is_state_dict(part) and not _is_network(_without_module_prefix(part)) for part in content)
    )


def _is_network(weights: Mapping[str, object]) -> bool:
    return all(any(name.startswith(prefix) for name in weights) for prefix in names.ENCODERS)


def _without_module_prefix(weights: Mapping[str, object]) -> dict[str, object]:
    """Return `weights` without the `module.` that DataParallel adds to names."""
    return {".".join(part for part in name.split(".") if part != "module"): w for name, w in weights.items()}


def _describe(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"it is of type {type(content).__name__}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:6]) + (", ..." if len(content) > 6 else "")
    return f"its keys are {keys}" if keys else "it is empty"


def _checked_tensors(path: Path, networks: Sequence[Mapping[str, object]]) -> list[Weights]:
    """Return `networks` if they hold tensors only, and no more bytes than the file. Raises UserError."""
    checked: list[Weights] = []
    total = 0
    for network in networks:
        weights = {}
        for name, weight in network.items():
            if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.device.type != "cpu":
                raise UserError(f"{path}: weight {name!r} has type {type(weight).__name__}, expected a dense tensor")
            size, held = weight.numel() * weight.element_size(), weight.untyped_storage().nbytes()
            if size > held:
                raise UserError(f"{path}: weight {name!r} claims {size} bytes, but {held} are stored; it is damaged")
            total += size
            if not name.endswith(BATCH_COUNTER):
                weights[name] = weight
        checked.append(weights)
    if total > path.stat().st_size:
        raise UserError(f"{path}: claims {total} bytes of weights, but has {path.stat().st_size} bytes; it is damaged")
    return checked


def _kind(path: Path, network: Weights) -> str:
    """Return the name of the backbone of a published network. Raises UserError unless it is SGR or SAF."""
    kinds = [kind for kind, prefix in names.HEADS.items() if any(name.startswith(prefix) for name in network)]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        prefixes = " or ".join(f"{prefix}*" for prefix in names.HEADS.values())
        raise UserError(f"{path}: expected weights named {prefixes}, found {found}; only SGR and SAF are supported")
    return kinds[0]


def _published_sizes(path: Path, network: Weights) -> Sizes:
    """Return the sizes of a published network, from the shapes of its weights. Raises UserError if they give none."""
    sizes = {}
    for size, (name, axis) in names.SIZES.items():
        if name not in network:
            raise UserError(f"{path}: weight {name!r} of SGR and SAF networks is missing")
        shape = tuple(network[name].shape)
        if len(shape) <= axis or 0 in shape:
            raise UserError(f"{path}: weight {name!r} has shape {shape}, expected sizes above 0")
        sizes[size] = shape[axis]
    return Sizes(**sizes)


def weight_shapes(kind: str, sizes: Sizes) -> dict[str, Shape]:
    """Return the shape of each weight of a backbone, by ncbench's names."""
    with torch.device("meta"):
        weights = build_backbone(kind, sizes).state_dict()
    return {name: tuple(weight.shape) for name, weight in weights.items() if not name.endswith(BATCH_COUNTER)}


def _check_shapes(path: Path, kind: str, expected: Mapping[str, Shape], found: Weights) -> None:
    """Raise UserError unless `found` has exactly the `expected` weights, in these shapes."""
    for name in found:
        if name not in expected:
            raise UserError(
                f"{path}: unexpected weight {name!r} for {kind.upper()}; this kind of network is not supported"
            )
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{path}: weight {name!r} of {kind.upper()} is missing, expected shape {shape}")
        if tuple(found[name].shape) != shape:
            raise UserError(f"{path}: weight {name!r} has shape {tuple(found[name].shape)}, expected {shape}")


def check_values(path: Path, weights: Weights) -> None:
    """Raise UserError unless all `weights` are finite floating-point numbers."""
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise UserError(f"{path}: weight {name!r} has dtype {weight.dtype}, expected floating-point numbers")
        if not weight.float().isfinite().all():
            raise UserError(f"{path}: weight {name!r} contains NaN or infinity; was it saved after training diverged?")
