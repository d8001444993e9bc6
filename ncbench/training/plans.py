"""Judges transport plans while a run trains: methods never see the ground truth that this needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from ncbench.data.dataset import Dataset
from ncbench.evaluation.plans import PlanShares, plan_shares
from ncbench.method.base import Method
from ncbench.noise.base import Noise
from ncbench.runtime import overhead
from ncbench.runtime.rng_state import random_state, set_random_state


@dataclass(frozen=True)
class PlanJudge:
    """Says where the mass of a method's transport plan goes, by the ground truth of `dataset` under `noise`."""

    dataset: Dataset
    noise: Noise

    def shares(self, method: Method, networks: Sequence[nn.Module]) -> PlanShares | None:
        """Return the shares of the plan of `method` now; None without a plan or without ground truth.

        Training does not notice: global generators, the modes of `networks` and the count of overhead are restored.
        """
        if not self.dataset.truth_known:
            return None
        before, counted = random_state(), overhead.spent()
        modes = [(module, module.training) for network in networks for module in network.modules()]
        try:
            plan = method.transport_plan()
        finally:
            for module, training in modes:
                module.training = training
            set_random_state(before)
            overhead.reset(counted)
        if plan is None:
            return None
        semantics = self.dataset.semantics
        # The meaning of captions with words of other captions is unknown.
        known = semantics is not None and self.noise.splices is None
        closeness = partial(semantics.closeness, "train") if semantics is not None and known else None
        return plan_shares(plan, self.dataset.splits["train"].true, self.noise.claimed, closeness)
