"""What defines a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ncbench.backbones.precision import Precision
from ncbench.budget import Unit

if TYPE_CHECKING:
    from ncbench.backbones.base import Sizes
    from ncbench.data.dataset import Dataset


SCHEMA = 1

LATER = {"precision": "float32", "budget_unit": "epochs", "source": ""}
"""Fields of a spec that came later: at these values, which earlier runs had, they are no part of its id."""


@dataclass(frozen=True)
class RunSpec:
    """All that defines a run. `budget` is in `budget_unit`; `seed` is the one that all others derive from; `source` is
    the digest of the file of a method that is in no installed package."""

    dataset: str
    dataset_version: str
    dataset_digest: str
    protocol: str
    protocol_version: str
    unit: str
    noise: float
    noise_digest: str
    method: str
    settings: Mapping[str, object]
    backbone: str
    sizes: Mapping[str, float]
    budget: float
    evaluations: int
    seed: int
    precision: Precision = "float32"
    budget_unit: Unit = "epochs"
    source: str = ""
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """Twelve hex digits that identify the run."""
        content = {key: value for key, value in asdict(self).items() if (key, value) not in LATER.items()}
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def sizes_of(spec: RunSpec, dataset: Dataset) -> Sizes:
    """Return the sizes of the backbone of `spec` on `dataset`."""
    from ncbench.backbones.base import Sizes  # here, as it loads torch

    given: dict[str, Any] = dict(spec.sizes)
    return Sizes(dataset.image_dim, dataset.n_regions, len(dataset.vocabulary), vector_dim=dataset.vector_dim, **given)
