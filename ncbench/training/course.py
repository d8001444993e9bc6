"""Judges beliefs and transport plans while a run trains: methods never see the ground truth that this needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from ncbench.data.dataset import Dataset, IntVector
from ncbench.errors import UserError
from ncbench.evaluation.beliefs import Detection, detect
from ncbench.evaluation.plans import PlanShares, plan_shares
from ncbench.noise.base import Noise
from ncbench.runtime import overhead
from ncbench.runtime.rng_state import random_state, set_random_state
from ncbench.runtime.sameness import differences
from ncbench.runtime.state import State
from ncbench.training.numbering import Numbering
from ncbench.training.seclusion import Secluded


@contextmanager
def unnoticed(method: Secluded, networks: Sequence[nn.Module], question: str) -> Iterator[None]:
    """Keep training from noticing what happens inside this context.

    Restores global generators, the modes and buffers of `networks` (running statistics change in every forward pass in
    training mode) and the count of overhead. Raises UserError for a method that trains meanwhile or keeps what it
    computes, which its budget would not count; `question` is what it was asked.
    """
    before, counted = random_state(), overhead.spent()
    parameters = [parameter for network in networks for parameter in network.parameters()]
    weights, state = [parameter.detach().clone() for parameter in parameters], _state(method)
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)
        set_random_state(before)
        overhead.reset(counted)
    if not all(torch.equal(old, new) for old, new in zip(weights, parameters, strict=True)):
        raise UserError(f"{question} of {method.name} changes the weights of its networks; it may only look")
    if changed := differences(state, _state(method)):
        raise UserError(f"{question} of {method.name} changes its state{changed[0]}; it may only look")


def _state(method: Secluded) -> State | None:
    """Return the state of a method; None if it cannot be saved, which is told where it is to be saved."""
    try:
        return method.state_dict()
    except TypeError:
        return None


@dataclass(frozen=True)
class CourseJudge:
    """Judges what a method believes while it trains, by the ground truth of `dataset` under `noise`.

    `numbering` translates the numbers that the method sees.
    """

    dataset: Dataset
    noise: Noise
    numbering: Numbering

    def shares(self, method: Secluded, networks: Sequence[nn.Module]) -> PlanShares | None:
        """Return the shares of the plan of `method` now; None without a plan or without ground truth.

        Raises as `unnoticed`.
        """
        if not self.dataset.truth_known:
            return None
        with unnoticed(method, networks, "transport_plan"):
            plan = method.transport_plan()
        if plan is None:
            return None
        plan = self.numbering.restored_plan(plan)
        semantics = self.dataset.semantics
        # The meaning of captions with words of other captions is unknown.
        known = semantics is not None and self.noise.splices is None
        closeness = partial(semantics.closeness, "train") if semantics is not None and known else None
        return plan_shares(plan, self.dataset.splits["train"].true, self.noise.claimed, closeness)

    def detections(
        self, method: Secluded, networks: Sequence[nn.Module], given_clean: IntVector
    ) -> tuple[Detection | None, Detection | None]:
        """Return how well P(clean) and the soft labels of `method` find mismatched pairs now.

        Pairs `given_clean`, in the numbers that the method sees, are left out. None for what the method does not state
        for every pair yet, and without ground truth. Raises as `unnoticed`.
        """
        if not self.dataset.truth_known:
            return None, None
        found: list[Detection | None] = []
        clean = self.numbering.shown(self.noise.clean(self.dataset.splits["train"].true))
        judged = np.setdiff1d(np.arange(len(clean)), given_clean)
        for question in (method.pair_scores, method.soft_labels):
            with unnoticed(method, networks, question.__name__):
                scores = question()
            stated = scores is not None and len(scores) == len(clean) and bool(((scores >= 0) & (scores <= 1)).all())
            found.append(detect(scores[judged], clean[judged]) if scores is not None and stated else None)
        return found[0], found[1]
