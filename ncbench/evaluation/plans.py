"""Where the mass of a transport plan goes: to true partners, closer images, or others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncbench.data.dataset import IntVector
from ncbench.evaluation.beliefs import Closeness
from ncbench.method.base import Plan


@dataclass(frozen=True)
class PlanShares:
    """Shares of the mass of a plan, in [0, 1].

    `true` is on true partners of the captions, `closer` on other images that are strictly closer in meaning to the
    caption than the claimed one; the rest is on images that are not. `closer` is None where meanings are unknown.
    `even` is what an even spread over the cells of the plan would put on true partners. `within_reach` is the share of
    the captions whose true image is in the plan: no others can be rematched to it. None in older records.
    """

    true: float
    closer: float | None
    even: float
    within_reach: float | None = None

    @property
    def better(self) -> float:
        """The share on images that fit better than the claimed ones: true partners, and closer ones if known."""
        return self.true + (self.closer or 0.0)


def plan_shares(plan: Plan, true: IntVector, claimed: IntVector, closeness: Closeness | None) -> PlanShares | None:
    """Return where the mass of `plan` goes; None for a plan without mass.

    `true` and `claimed` are the images of all training pairs, (pairs,) int64 each. `closeness` is as in
    `rematch_quality`, or None.
    """
    total = float(plan.mass.sum())
    if total <= 0:
        return None
    partners = plan.images[:, None] == true[plan.captions]
    closer = None
    if closeness is not None:
        captions, images = np.broadcast_arrays(plan.captions[None, :], plan.images[:, None])
        reached = closeness(captions.ravel(), images.ravel()).reshape(plan.mass.shape)
        before = closeness(plan.captions, claimed[plan.captions])
        closer = float(plan.mass[(reached > before) & ~partners].sum() / total)
    within_reach = float(partners.any(0).mean())
    return PlanShares(float(plan.mass[partners].sum() / total), closer, float(partners.mean()), within_reach)
