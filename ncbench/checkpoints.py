"""Trained networks from files: checkpoints that papers released, and the records of runs.

The released codes differ in how they lay out a file (L2RM one flat dict, SGRAF a list of three, NCR two such lists) and
agree on the names inside; a network is therefore known by its names, wherever in the file it lies. Networks come in two
steps: `read_checkpoint` does all that needs no dataset, `build` the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ncbench.backbones import backbone_class, build_backbone, check_backbone, members_of, published
from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.head import head_width
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.runner import sizes_of
from ncbench.settings import SIZES
from ncbench.store import RunSpec, read_record
from ncbench.torch_file import read_torch_file

MODEL, SPEC = "model.safetensors", "spec.json"

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
            _check_shapes(self.path, kind, _shapes(kind, sizes), weights)
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


@dataclass(frozen=True)
class RunCheckpoint(Checkpoint):
    """The networks of a run of ours; `spec` says what they are."""

    spec: RunSpec

    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        trained, here = (self.spec.dataset, self.spec.dataset_digest), (dataset.name, dataset.digest)
        if trained != here:
            trained_on, found = (f"{name} (content {str(digest)[:8]})" for name, digest in (trained, here))
            raise UserError(f"{self.path}: was trained on {trained_on}; the dataset to evaluate on is {found}")
        sizes = sizes_of(self.spec, dataset)
        return [_with_head(kind, sizes, network) for kind, network in zip(self.kinds, self.weights, strict=True)]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the networks in `path`: a checkpoint of a released code, the folder of a run, or its model.safetensors.

    Nothing that the file holds is executed. Raises UserError for a file that is no checkpoint, a checkpoint of another
    kind of network, and weights that are missing, too many, misshapen or not finite.
    """
    if path.is_dir():
        return read_run(path, path / MODEL)
    if path.suffix == ".safetensors":
        return read_run(path.parent, path)
    return read_published(path)


def read_published(path: Path) -> PublishedCheckpoint:
    """Return the SGR and SAF networks in a checkpoint of a released code. Raises UserError as `read_checkpoint`."""
    content = read_torch_file(path)
    networks = list(_networks(content))
    if not networks:
        beginnings = ", ".join(f"{beginning}*" for beginning in published.ENCODERS)
        raise UserError(
            f"{path}: holds no SGR or SAF network ({_described(content)}); right would be weights called {beginnings}, "
            "or a list of the weights of these three encoders"
        )
    weights = _tensors(path, networks)
    kinds = [_kind(path, network) for network in weights]
    sizes = [_published_sizes(path, network) for network in weights]
    for kind, size, network in zip(kinds, sizes, weights, strict=True):
        shapes = _shapes(kind, size)
        _check_shapes(path, kind, {published.published_name(name): shapes[name] for name in shapes}, network)
        _check_values(path, network)
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    ours = [published.rename_published(network) for network in weights]
    return PublishedCheckpoint(path, kinds, ours, epoch if type(epoch) is int else None, sizes)


def read_run(folder: Path, model: Path) -> RunCheckpoint:
    """Return the networks in `model`, recorded by a run in `folder`. Raises UserError as `read_checkpoint`."""
    missing = [path.name for path in (folder / SPEC, model) if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder}: lacks {' and '.join(missing)}; right would be the folder of a finished run or a checkpoint"
        )
    record = read_record(folder / SPEC)
    try:
        spec = RunSpec(**record)
        check_backbone(spec.backbone)
        _check_sizes(spec.sizes)
        networks = _numbered(load_file(model))
    except (UserError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder}: cannot be read as the record of a run ({error}); restore it or run again"
        ) from error
    for network in networks:
        _check_values(model, network)
    return RunCheckpoint(model, [_kind_in_run(spec, network) for network in networks], networks, None, spec)


def _kind_in_run(spec: RunSpec, network: Weights) -> str:
    """Return the backbone of the run, or the member of it that has the weights called as those of `network`."""
    sizes = Sizes(1, 1, 1, **dict[str, Any](spec.sizes))  # names do not depend on what the dataset dictates
    for kind in members_of(spec.backbone):
        if _shapes(kind, _with_head(kind, sizes, network)).keys() == network.keys():
            return kind
    return spec.backbone


def _with_head(kind: str, sizes: Sizes, network: Weights) -> Sizes:
    """Return the sizes of a backbone whose head is that of a network: the record of a run has no width of it."""
    return replace(sizes, head=head_width(network) if "head" in backbone_class(kind).ABILITIES else 0)


def _check_sizes(sizes: object) -> None:
    if not isinstance(sizes, Mapping):
        raise ValueError(f"sizes {sizes!r}")
    for key, value in sizes.items():
        if key not in SIZES or not isinstance(value, int | float) or value < (SIZES[key] is int):
            raise ValueError(f"size {key!r} is {value!r}")


def _numbered(weights: Weights) -> list[Weights]:
    """Return the weights of every network of a run from those called `<number>.<name>`. Raises ValueError."""
    networks: dict[int, dict[str, Tensor]] = {}
    for key, weight in weights.items():
        number, _, name = key.partition(".")
        network = networks.setdefault(int(number), {})
        if not name.endswith(COUNTER):
            network[name] = weight
    if not networks or sorted(networks) != list(range(len(networks))):
        raise ValueError(f"networks {sorted(networks)}, not 0, 1, ...")
    return [networks[number] for number in range(len(networks))]


def _networks(content: object, depth: int = 2) -> Iterator[dict[str, object]]:
    """Yield the networks in `content`, in order: it is one, or it holds some, or dicts or lists of some."""
    members = list(content.values()) if isinstance(content, Mapping) else content
    if _is_state(content) and _is_network(whole := _plain(content)):
        yield whole
    elif not isinstance(members, list | tuple):
        return
    elif _is_triple(content):
        parts = zip(published.ENCODERS, map(_plain, content), strict=True)
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
        and len(content) == len(published.ENCODERS)
        and all(_is_state(part) and not _is_network(_plain(part)) for part in content)
    )


def _is_network(weights: Mapping[str, object]) -> bool:
    return all(any(name.startswith(start) for name in weights) for start in published.ENCODERS)


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
    kinds = [kind for kind, start in published.HEADS.items() if any(name.startswith(start) for name in network)]
    if len(kinds) != 1:
        found = "both" if kinds else "neither"
        starts = " and ".join(f"{start}*" for start in published.HEADS.values())
        raise UserError(
            f"{path}: of the weights {starts} it holds {found}; right would be one: only SGR and SAF are supported"
        )
    return kinds[0]


def _published_sizes(path: Path, network: Weights) -> Sizes:
    """Return the sizes that the shapes of a published network show. Raises UserError for weights that show none."""
    sizes = {}
    for size, (name, axis) in published.SIZES.items():
        if name not in network:
            raise UserError(f"{path}: lacks the weight {name!r}, which every SGR and SAF network has")
        shape = tuple(network[name].shape)
        if len(shape) <= axis or 0 in shape:
            raise UserError(f"{path}: weight {name!r} has shape {shape}, which gives no size; right would be above 0")
        sizes[size] = shape[axis]
    return Sizes(**sizes)


def _shapes(kind: str, sizes: Sizes) -> dict[str, Shape]:
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


def _check_values(path: Path, weights: Weights) -> None:
    """Raise UserError unless all `weights` are finite floating-point numbers."""
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise UserError(f"{path}: weight {name!r} holds {weight.dtype}; right would be floating-point numbers")
        if not weight.float().isfinite().all():
            raise UserError(f"{path}: weight {name!r} holds NaN or infinity; was it saved after training diverged?")
