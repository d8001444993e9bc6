"""The trained networks of a run, from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ncbench.backbones.base import Sizes
from ncbench.backbones.head import head_width
from ncbench.backbones.registry import backbone_class, check_backbone, members_of
from ncbench.backbones.released.checkpoint import (
    COUNTER,
    Checkpoint,
    Weights,
    check_values,
    read_published,
    weight_shapes,
)
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.method.settings import SIZES
from ncbench.records.spec import RunSpec, sizes_of
from ncbench.records.store import read_record

MODEL, SPEC = "model.safetensors", "spec.json"


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


def read_run(folder: Path, model: Path) -> RunCheckpoint:
    """Return the networks in `model`, recorded by a run in `folder`. Raises UserError as `read_checkpoint`."""
    missing = [path.name for path in (folder / SPEC, model) if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder}: lacks {' and '.join(missing)}; right would be the folder of a finished run or a checkpoint"
        )
    record = read_record(folder / SPEC)
    try:
        spec = RunSpec.from_dict(record)
        check_backbone(spec.backbone)
        _check_sizes(spec.sizes)
        networks = _numbered(load_file(model))
    except (UserError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder}: cannot be read as the record of a run ({error}); restore it or run again"
        ) from error
    for network in networks:
        check_values(model, network)
    return RunCheckpoint(model, [_kind_in_run(spec, network) for network in networks], networks, None, spec)


def _kind_in_run(spec: RunSpec, network: Weights) -> str:
    """Return the backbone of the run, or the member of it that has the weights called as those of `network`."""
    sizes = Sizes(1, 1, 1, **dict[str, Any](spec.sizes))  # names do not depend on what the dataset dictates
    for kind in members_of(spec.backbone):
        if weight_shapes(kind, _with_head(kind, sizes, network)).keys() == network.keys():
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
