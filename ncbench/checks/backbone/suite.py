"""All checks of a backbone, in their order."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from ncbench.backbones.outline import check_builds
from ncbench.backbones.registry import check_captions, resolve
from ncbench.checks.backbone import costs, similarities, weights
from ncbench.checks.backbone.subject import BackboneUnderTest
from ncbench.checks.verdicts import Check, Verdict, judge
from ncbench.data.dataset import Dataset

CHECKS: Sequence[Check[BackboneUnderTest]] = (
    weights.BUILDS,
    similarities.SHAPES,
    similarities.FINITE,
    similarities.INDEPENDENT,
    similarities.DIAGONAL,
    weights.GRADIENTS,
    costs.COSTS,
    costs.UPDATE_COST,
    weights.SEEDED,
    weights.STATE,
    similarities.WITHIN,
    similarities.HEAD,
)


def check_backbone_named(
    text: str, dataset: Dataset, chosen: Mapping[str, float] | None = None
) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a backbone, given by name or file path, built for `dataset` with the sizes `chosen`.

    Raises UserError for a backbone that is unknown, cannot be built, or cannot read the captions.
    """
    name = resolve(text)
    check_captions(name, dataset)
    check_builds(name, dataset, {**dataset.scale, **(chosen or {})})
    yield from judge(CHECKS, BackboneUnderTest(name, dataset, chosen or {}))
