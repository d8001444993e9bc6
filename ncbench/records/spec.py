"""`spec.json`: what defines a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from msgspec import Meta

from ncbench.backbones.precision import Precision
from ncbench.budget import Budget, Unit
from ncbench.plugins.discovery import NAME
from ncbench.records.checked import checked

if TYPE_CHECKING:
    from ncbench.backbones.base import Sizes
    from ncbench.data.dataset import Dataset
    from ncbench.method.base import Method
    from ncbench.noise.base import Noise


SCHEMA = 1

ADDED_LATER: Mapping[str, object] = {"precision": "float32", "budget_unit": "epochs", "source": ""}
"""Keys that older specs lack, with the values that they stand for. At these values they are no part of an id."""

Number: TypeAlias = int | float
"""Integers stay integers: ids are hashes of the JSON text, where 16 and 16.0 differ."""

Ratio: TypeAlias = Annotated[int, Meta(ge=0, lt=1)] | Annotated[float, Meta(ge=0, lt=1)]
"""A noise ratio, in [0, 1)."""

NAMES_IN_PATHS = ("dataset", "noise_digest")
"""Fields that name files and folders."""


@dataclass(frozen=True)
class RunSpec:
    """All that defines a run; its `id` is a hash of this.

    `unit` is what the noise moves, `seed` the one that all others derive from, and `source` the digest of the file that
    defines the method, "" for an installed one. `RunSpec.of` makes one from what it describes; `from_dict` and
    `to_dict` read and write the content of `spec.json`, in which a budget is two keys.
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
    schema: int = SCHEMA

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        noise: Noise,
        method: type[Method],
        settings: Mapping[str, object],
        *,
        backbone: str,
        budget: Budget,
        evaluations: int,
        seed: int,
        sizes: Mapping[str, float] | None = None,
        precision: Precision = "float32",
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
    def id(self) -> str:
        """Twelve hex digits that identify the run."""
        content = {key: value for key, value in self.to_dict().items() if (key, value) not in ADDED_LATER.items()}
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def sizes_of(spec: RunSpec, dataset: Dataset) -> Sizes:
    """Return the sizes of the backbone of `spec` on `dataset`."""
    from ncbench.backbones.base import Sizes  # here, as it loads torch

    given: dict[str, Any] = dict(spec.sizes)
    return Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), vector_dim=dataset.vector_dim, **given)
