"""Judges transport plans while a run trains: methods never see the ground truth that this needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ncbench.data.dataset import Dataset
from ncbench.errors import UserError
from ncbench.evaluation.plans import PlanShares, plan_shares
from ncbench.noise.base import Noise
from ncbench.runtime import overhead
from ncbench.runtime.rng_state import random_state, set_random_state
from ncbench.training.numbering import Numbering
from ncbench.training.seclusion import Secluded


@dataclass(frozen=True)
class PlanJudge:
    """Says where the mass of a method's transport plan goes, by the ground truth of `dataset` under `noise`.

    `numbering` translates the numbers that the method sees.
    """

    dataset: Dataset
    noise: Noise
    numbering: Numbering

    def shares(self, method: Secluded, networks: Sequence[nn.Module]) -> PlanShares | None:
        """Return the shares of the plan of `method` now; None without a plan or without ground truth.

        Training does not notice: global generators, the modes of `networks` and the count of overhead are restored.
        Raises UserError for a method that trains meanwhile, which its budget would not count.
        """
        if not self.dataset.truth_known:
            return None
        before, counted = random_state(), overhead.spent()
        parameters = [parameter for network in networks for parameter in network.parameters()]
        weights = [parameter.detach().clone() for parameter in parameters]
        modes = [(module, module.training) for network in networks for module in network.modules()]
        try:
            plan = method.transport_plan()
        finally:
            for module, training in modes:
                module.training = training
            set_random_state(before)
            overhead.reset(counted)
        if not all(torch.equal(old, new) for old, new in zip(weights, parameters, strict=True)):
            raise UserError(f"transport_plan of {method.name} changes the weights of its networks; it may only look")
        if plan is None:
            return None
        plan = self.numbering.restored_plan(plan)
        semantics = self.dataset.semantics
        # The meaning of captions with words of other captions is unknown.
        known = semantics is not None and self.noise.splices is None
        closeness = partial(semantics.closeness, "train") if semantics is not None and known else None
        return plan_shares(plan, self.dataset.splits["train"].true, self.noise.claimed, closeness)
