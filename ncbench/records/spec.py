"""`spec.json`: what defines a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from msgspec import Meta

from ncbench.backbones.precision import Precision
from ncbench.budget import Budget, Unit
from ncbench.errors import UserError
from ncbench.plugins.discovery import NAME
from ncbench.records.checked import checked

if TYPE_CHECKING:
    from ncbench.backbones.base import Sizes
    from ncbench.data.dataset import Dataset
    from ncbench.noise.base import Noise


SCHEMA = 1

HARNESS = 2
"""The version of the harness. A new one makes the same spec train differently, so that runs of two are never mixed.

1: methods saw the numbers of the dataset. 2: they see numbers of their own (`ncbench.training.numbering`).
"""

ADDED_LATER: Mapping[str, object] = {
    "precision": "float32",
    "budget_unit": "epochs",
    "source": "",
    "backbone_source": "",
    "harness": 1,
}
"""Keys that older specs lack, with the values that they stand for. At these values they are no part of an id."""

Number: TypeAlias = int | float
"""Integers stay integers: ids are hashes of the JSON text, where 16 and 16.0 differ."""

Ratio: TypeAlias = Annotated[int, Meta(ge=0, lt=1)] | Annotated[float, Meta(ge=0, lt=1)]
"""A noise ratio, in [0, 1)."""

NAMES_IN_PATHS = ("dataset", "noise_digest")
"""Fields that name files and folders."""


class NamedMethod(Protocol):
    """A method, as far as specs know it: see `ncbench.Method`."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def source(self) -> str:
        """The digest of the file that defines it, "" for an installed one."""


@dataclass(frozen=True)
class RunSpec:
    """All that defines a run; its `id` is a hash of this.

    `unit` is what the noise moves, `seed` the one that all others derive from, and `source` the digest of the file that
    defines the method, "" for an installed one; `backbone_source` is that of the backbone's file. `harness` is the
    version of the harness that trains. `RunSpec.of` makes
    one from what it describes; `from_dict` and `to_dict` read and write the content of `spec.json`, in which a budget
    is two keys.
    """

    dataset: str
    dataset_version: str
    dataset_digest: str
    protocol: str
    protocol_version: str
    unit: str
    noise: Ratio
    noise_digest: str
    method: str
    settings: Mapping[str, object]
    backbone: str
    sizes: Mapping[str, Number]
    budget: Budget
    evaluations: Annotated[int, Meta(ge=1)]
    seed: Annotated[int, Meta(ge=0)]
    precision: Precision = "float32"
    source: str = ""
    backbone_source: str = ""
    harness: Annotated[int, Meta(ge=1)] = HARNESS
    schema: int = SCHEMA

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        noise: Noise,
        method: NamedMethod,
        settings: Mapping[str, object],
        *,
        backbone: str,
        budget: Budget,
        evaluations: int,
        seed: int,
        sizes: Mapping[str, float] | None = None,
        precision: Precision = "float32",
        backbone_source: str = "",
    ) -> RunSpec:
        """Return the spec of a run of `method` on `dataset` under `noise`; `sizes` default to the dataset's own."""
        return cls(
            dataset=dataset.name,
            dataset_version=dataset.version,
            dataset_digest=dataset.digest,
            protocol=noise.label,
            protocol_version=noise.version,
            unit=noise.unit,
            noise=noise.ratio,
            noise_digest=noise.digest,
            method=method.name,
            settings=settings,
            backbone=backbone,
            sizes=dataset.scale if sizes is None else sizes,
            budget=budget,
            evaluations=evaluations,
            seed=seed,
            precision=precision,
            source=method.source,
            backbone_source=backbone_source,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunSpec:
        """Return the spec that `to_dict` wrote, by any version. Raises ValueError for other content."""
        content = {**ADDED_LATER, **content}
        amount, unit = content.pop("budget", None), content.pop("budget_unit")
        content["budget"] = Budget(checked(amount, Number, "budget"), checked(unit, Unit, "budget_unit"))
        unknown = content.keys() - {entry.name for entry in fields(cls)}
        if unknown:
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        spec: RunSpec = checked(content, cls)
        for name in NAMES_IN_PATHS:
            if not NAME.fullmatch(getattr(spec, name)):
                raise ValueError(f"{name}: {getattr(spec, name)!r} is not a valid name")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `spec.json`."""
        content = {**vars(self), "settings": dict(self.settings), "sizes": dict(self.sizes)}
        return {**content, "budget": self.budget.amount, "budget_unit": self.budget.unit}

    @property
    def of_earlier_harness(self) -> bool:
        """Whether an earlier version of the harness made the run, so that it would now end in another result."""
        return self.harness < HARNESS

    @property
    def id(self) -> str:
        """Twelve hex digits that identify the run."""
        content = {key: value for key, value in self.to_dict().items() if (key, value) not in ADDED_LATER.items()}
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_harness(spec: RunSpec, where: str) -> None:
    """Raise UserError, naming `where`, unless this version of the harness makes the runs of `spec`."""
    if spec.harness != HARNESS:
        order = "an earlier" if spec.of_earlier_harness else "a later"
        raise UserError(
            f"{where}: made by {order} version of the harness ({spec.harness}, here {HARNESS}), and results differ "
            "since; replay it with the version of ncbench that recorded it"
        )


def sizes_of(spec: RunSpec, dataset: Dataset) -> Sizes:
    """Return the sizes of the backbone of `spec` on `dataset`."""
    from ncbench.backbones.base import Sizes  # here, as it loads torch

    return Sizes.of(dataset, spec.sizes)
