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
    Checkpoint,
    Weights,
    check_values,
    read_published,
    weight_shapes,
)
from ncbench.backbones.released.names import BATCH_COUNTER
from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.method.settings import SIZES
from ncbench.records.record import MODEL_FILE, SPEC_FILE, Record
from ncbench.records.spec import RunSpec, sizes_of


@dataclass(frozen=True)
class RunCheckpoint(Checkpoint):
    """The networks of a run, which `spec` defines."""

    spec: RunSpec

    def _sizes(self, dataset: Dataset) -> Sequence[Sizes]:
        trained, here = (self.spec.dataset, self.spec.dataset_digest), (dataset.name, dataset.digest)
        if trained != here:
            trained_on, found = (f"{name} (content {str(digest)[:8]})" for name, digest in (trained, here))
            raise UserError(f"{self.path}: was trained on {trained_on}; the dataset to evaluate on is {found}")
        sizes = sizes_of(self.spec, dataset)
        return [_with_head(kind, sizes, network) for kind, network in zip(self.kinds, self.weights, strict=True)]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the networks in `path`: a checkpoint of released code, the folder of a run, or its model.safetensors.

    No code in the file is executed. Raises UserError for other files, for checkpoints of other networks, and for
    weights that are missing, unexpected, not finite, or of a wrong shape.
    """
    if path.is_dir():
        return read_run(path, path / MODEL_FILE)
    if path.suffix == ".safetensors":
        return read_run(path.parent, path)
    return read_published(path)


def read_run(folder: Path, model: Path) -> RunCheckpoint:
    """Return the networks in `model`, written by the run in `folder`. Raises UserError like `read_checkpoint`."""
    if (folder / SPEC_FILE).is_file() and not model.is_file():
        record = Record(folder)
        if record.origin() is not None or record.spec.budget.self_reported:
            raise record.missing(MODEL_FILE)
    missing = [path.name for path in (folder / SPEC_FILE, model) if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder}: {' and '.join(missing)} not found; give the folder of a finished run or a checkpoint"
        )
    spec = Record(folder).spec
    try:
        check_backbone(spec.backbone)
        _check_source(spec)
        _check_sizes(spec.sizes)
        networks = _numbered(load_file(model))
    except (UserError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be read as a run record ({error}); restore it or run it again") from error
    for network in networks:
        check_values(model, network)
    return RunCheckpoint(model, [_kind_in_run(spec, network) for network in networks], networks, None, spec)


def _check_source(spec: RunSpec) -> None:
    """Raise UserError unless the backbone that is found here by name is that of the run."""
    found = backbone_class(spec.backbone).source
    if found != spec.backbone_source:
        raise UserError(
            f"its backbone {spec.backbone} has digest {spec.backbone_source or '(installed)'}, the one found here "
            f"{found or '(installed)'}; set NCBENCH_PLUGINS to the original file"
        )


def _kind_in_run(spec: RunSpec, network: Weights) -> str:
    """Return the backbone of the run, or its member whose weights have the names of those of `network`."""
    sizes = Sizes(1, 1, 1, **dict[str, Any](spec.sizes))  # names do not depend on the sizes of the dataset
    for kind in members_of(spec.backbone):
        if weight_shapes(kind, _with_head(kind, sizes, network)).keys() == network.keys():
            return kind
    return spec.backbone


def _with_head(kind: str, sizes: Sizes, network: Weights) -> Sizes:
    """Return `sizes` with the width of the head of a network, which records do not have."""
    return replace(sizes, head=head_width(network) if "head" in backbone_class(kind).ABILITIES else 0)


def _check_sizes(sizes: Mapping[str, float]) -> None:
    for key, value in sizes.items():
        if key not in SIZES or value < (SIZES[key] is int):
            raise ValueError(f"size {key!r} is {value!r}")


def _numbered(weights: Weights) -> list[Weights]:
    """Return the weights of each network from weights named `<number>.<name>`. Raises ValueError."""
    networks: dict[int, dict[str, Tensor]] = {}
    for key, weight in weights.items():
        number, _, name = key.partition(".")
        network = networks.setdefault(int(number), {})
        if not name.endswith(BATCH_COUNTER):
            network[name] = weight
    if not networks or sorted(networks) != list(range(len(networks))):
        raise ValueError(f"networks {sorted(networks)}, not 0, 1, ...")
    return [networks[number] for number in range(len(networks))]
