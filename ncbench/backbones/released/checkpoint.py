"""Checkpoints of trained networks, in particular those that papers released.

The released repositories agree on the names of weights but not on the layout of the file: L2RM saves one flat dict,
SGRAF a list of three dicts, NCR two such lists, SCAN a list of two. Networks are therefore found by the names of their
weights, anywhere in the file; a network under two keys counts once. `read_published` does everything that needs no
dataset, `Checkpoint.build` the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.outline import outline
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.released.names import (
    BATCH_COUNTER,
    CAPTIONS,
    GRAPH_HEADS,
    GRAPHS,
    IMAGES,
    SCAN,
    SIMILARITY,
    VSE_INFINITY,
    Family,
)
from ncbench.backbones.released.scan_options import scan_variant
from ncbench.backbones.released.torch_file import read_torch_file
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError

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
        return [self._fitting(sizes, dataset) for sizes in self.sizes]

    def _fitting(self, sizes: Sizes, dataset: Dataset) -> Sizes:
        """Return `sizes` with the number of regions of `dataset`, if the weights allow any. Raises UserError."""
        words = len(dataset.vocabulary)
        if sizes.vocabulary not in (words, words + 1):  # the last row may be <mask>, which is never looked up
            raise UserError(
                f"{self.path}: has a vocabulary of {sizes.vocabulary} words, expected {words} "
                f"(or {words + 1} with <mask>) for dataset {dataset.name}; was it trained on another dataset?"
            )
        fitting = replace(sizes, n_regions=sizes.n_regions or dataset.n_regions)
        if (fitting.n_regions, fitting.image_dim) != (dataset.n_regions, dataset.image_dim):
            regions = f"{sizes.n_regions} regions by " if sizes.n_regions else "regions of "
            raise UserError(
                f"{self.path}: expects images of {regions}{sizes.image_dim} dimensions, "
                f"but dataset {dataset.name} has {dataset.n_regions} by {dataset.image_dim}; "
                "was it trained on other features?"
            )
        return fitting


def read_published(path: Path) -> PublishedCheckpoint:
    """Return the networks in a paper's released checkpoint: SGR, SAF, SCAN, or VSE-infinity with a GRU.

    Raises UserError for any other file.
    """
    content = read_torch_file(path)
    networks = _distinct(_networks(content), _identical)
    if not networks:
        raise UserError(
            f"{path}: no network found ({_describe(content)}); expected weights of SGR, SAF, SCAN or VSE-infinity, "
            f"named {IMAGES}*, {CAPTIONS}* and, of SGR and SAF, {SIMILARITY}*, or a list of the state dicts of these "
            "encoders"
        )
    families = [_family(path, network) for network in networks]
    weights = _distinct(_checked_tensors(path, networks, families), _equal)
    families = [_family(path, network) for network in weights]
    read = [_read(path, *pair, content) for pair in zip(families, weights, strict=True)]
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    return PublishedCheckpoint(
        path,
        [kind for kind, _, _ in read],
        [ours for _, _, ours in read],
        epoch if type(epoch) is int else None,
        [sizes for _, sizes, _ in read],
    )


def _read(path: Path, family: Family, network: Weights, content: object) -> tuple[str, Sizes, Weights]:
    """Return the backbone, the sizes and the weights under our names of a published network. Raises UserError."""
    sizes = _published_sizes(path, family, network)
    if family is GRAPHS:
        kind = _graph_kind(path, network)
    elif family is VSE_INFINITY:
        kind = "vse-infinity"
    else:
        kind, lse = scan_variant(path, content.get("opt") if isinstance(content, Mapping) else None)
        sizes = replace(sizes, lse=lse)
    shapes = weight_shapes(kind, replace(sizes, n_regions=sizes.n_regions or 1))
    _check_shapes(path, kind, {family.published_name(name): shapes[name] for name in shapes}, network)
    check_values(path, network)
    return kind, sizes, family.renamed(network)


def _networks(content: object, depth: int = 2) -> Iterator[dict[str, object]]:
    """Yield the networks in `content` in order: `content` itself, or those in it, nested up to `depth` levels deep."""
    members = list(content.values()) if isinstance(content, Mapping) else content
    if _is_state_dict(content) and _is_network(whole := _without_module_prefix(content)):
        yield whole
    elif not isinstance(members, list | tuple):
        return
    elif parts := _parts(content):
        yield parts
    elif depth:
        for member in members:
            yield from _networks(member, depth - 1)


Network = TypeVar("Network", bound=Mapping[str, object])


def _distinct(networks: Iterable[Network], same: Callable[[object, object], bool]) -> list[Network]:
    """Return the networks without those whose weights are all the `same` as those of an earlier one."""
    found: list[Network] = []
    for network in networks:
        if not any(
            network.keys() == other.keys() and all(same(network[name], other[name]) for name in network)
            for other in found
        ):
            found.append(network)
    return found


def _identical(one: object, other: object) -> bool:
    """Return whether two weights are one in the file; only this may be asked before they are checked."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other
    return one is other or (
        one.layout == other.layout == torch.strided
        and one.data_ptr() == other.data_ptr()
        and (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
    )


def _equal(one: object, other: object) -> bool:
    return (
        isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one, other)
    )


def _is_state_dict(content: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether `content` looks like the `state_dict` of a module."""
    return (
        isinstance(content, Mapping)
        and all(isinstance(name, str) for name in content)
        and any(isinstance(weight, Tensor) for weight in content.values())
    )


def _parts(content: object) -> dict[str, object]:
    """Return the network in a list of the state dicts of its two or three encoders, or {}."""
    if not isinstance(content, list | tuple):
        return {}
    parts = [part for part in content if part != {}]  # a similarity without weights
    prefixes = (IMAGES, CAPTIONS, SIMILARITY)[: len(parts)]
    if not 2 <= len(parts) <= 3 or not all(map(_is_state_dict, parts)):
        return {}
    plain = [_without_module_prefix(part) for part in parts]
    if any(map(_is_network, plain)):
        return {}
    whole = {
        prefix + name: weight for prefix, part in zip(prefixes, plain, strict=True) for name, weight in part.items()
    }
    return whole if len(parts) == 3 or {"img_enc.fc.weight", "txt_enc.embed.weight"} <= whole.keys() else {}


def _is_network(weights: Mapping[str, object]) -> bool:
    return all(any(name.startswith(prefix) for name in weights) for prefix in (IMAGES, CAPTIONS))


def _family(path: Path, network: Mapping[str, object]) -> Family:
    """Return the family of a network. Raises UserError if ncbench has no such network."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in network)

    if has(SIMILARITY):
        return GRAPHS
    if has("txt_enc.bert."):
        raise UserError(f"{path}: encodes captions with BERT, expected a GRU; this kind of network is not supported")
    if has("img_enc.cnn."):
        raise UserError(f"{path}: encodes pixels, expected region features; this kind of network is not supported")
    if has("img_enc.gpool."):
        return VSE_INFINITY
    if "txt_enc.rnn.weight_ih_l0" in network and "txt_enc.rnn.weight_ih_l0_reverse" not in network:
        raise UserError(
            f"{path}: its GRU reads words in one direction, as that of VSE++; expected both, as in SCAN (--bi_gru)"
        )
    return SCAN


def _without_module_prefix(weights: Mapping[str, object]) -> dict[str, object]:
    """Return `weights` without the `module.` that DataParallel adds to names."""
    return {".".join(part for part in name.split(".") if part != "module"): w for name, w in weights.items()}


def _describe(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"it is of type {type(content).__name__}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:6]) + (", ..." if len(content) > 6 else "")
    return f"its keys are {keys}" if keys else "it is empty"


def _checked_tensors(path: Path, networks: Sequence[Mapping[str, object]], families: Sequence[Family]) -> list[Weights]:
    """Return the weights that are used, if they are tensors and have no more bytes than the file. Raises UserError."""
    checked: list[Weights] = []
    total = 0
    for network, family in zip(networks, families, strict=True):
        weights = {}
        for name, weight in network.items():
            if not isinstance(weight, Tensor) or weight.layout != torch.strided or weight.device.type != "cpu":
                raise UserError(f"{path}: weight {name!r} has type {type(weight).__name__}, expected a dense tensor")
            size, held = weight.numel() * weight.element_size(), weight.untyped_storage().nbytes()
            if size > held:
                raise UserError(f"{path}: weight {name!r} claims {size} bytes, but {held} are stored; it is damaged")
            total += size
            if not name.endswith(BATCH_COUNTER) and not name.startswith(tuple(family.unused)):
                weights[name] = weight
        checked.append(weights)
    if total > path.stat().st_size:
        raise UserError(f"{path}: claims {total} bytes of weights, but has {path.stat().st_size} bytes; it is damaged")
    return checked


def _graph_kind(path: Path, network: Weights) -> str:
    """Return the name of the backbone of a published network. Raises UserError unless it is SGR or SAF."""
    kinds = [kind for kind, prefix in GRAPH_HEADS.items() if any(name.startswith(prefix) for name in network)]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        prefixes = " or ".join(f"{prefix}*" for prefix in GRAPH_HEADS.values())
        raise UserError(f"{path}: expected weights named {prefixes}, found {found}; only SGR and SAF are supported")
    return kinds[0]


def _published_sizes(path: Path, family: Family, network: Weights) -> Sizes:
    """Return the sizes of a published network, from the shapes of its weights; `n_regions` is 0 if they allow any.

    Raises UserError if they give none.
    """
    sizes: dict[str, Any] = {"n_regions": 0}
    for size, (name, axis) in family.sizes.items():
        if name not in network:
            raise UserError(f"{path}: weight {name!r} of {family.title} networks is missing")
        shape = tuple(network[name].shape)
        if len(shape) <= axis or 0 in shape:
            raise UserError(f"{path}: weight {name!r} has shape {shape}, expected sizes above 0")
        sizes[size] = shape[axis]
    return Sizes(**sizes)


def weight_shapes(kind: str, sizes: Sizes) -> dict[str, Shape]:
    """Return the shape of each weight of a backbone, by ncbench's names."""
    weights = outline(kind, sizes).state_dict()
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
