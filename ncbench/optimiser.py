"""The optimiser that the field's methods share: Adam, clipped gradients, steps down that follow the budget."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ncbench.budget import WorkMeter


class Optimiser:
    """Adam over `networks` with gradient-norm clipping.

    The learning rate is `lr` until the share `decay_from + decay_every` of the budget is spent, and falls to a tenth
    after every further `decay_every`: lr * 0.1 ** floor((progress - decay_from) / decay_every).
    """

    def __init__(
        self,
        networks: Iterable[nn.Module],
        budget: WorkMeter,
        *,
        lr: float,
        clip: float = math.inf,
        decay_from: float = 0.0,
        decay_every: float = math.inf,
    ) -> None:
        self._weights = [weight for network in networks for weight in network.parameters()]
        self._adam = torch.optim.Adam(self._weights, lr)
        self._budget = budget
        self._lr, self._clip = lr, clip
        self._decay_from, self._decay_every = decay_from, decay_every

    @property
    def lr(self) -> float:
        """The learning rate at this point of the budget."""
        passed = max(0.0, self._budget.progress - self._decay_from)
        return self._lr * 0.1 ** math.floor(passed / self._decay_every)

    def step(self, loss: Tensor) -> None:
        """Update the weights once by the gradient of `loss`."""
        self.accumulate(loss)
        self.apply()

    def accumulate(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to what the next `apply` uses."""
        loss.backward()  # type: ignore[no-untyped-call]

    def apply(self) -> None:
        """Update the weights once by the accumulated gradients, and forget them."""
        nn.utils.clip_grad_norm_(self._weights, self._clip)
        for group in self._adam.param_groups:
            group["lr"] = self.lr
        self._adam.step()
        self._adam.zero_grad()
