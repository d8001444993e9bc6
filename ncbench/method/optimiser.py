"""The optimiser that published methods share: Adam, clipped gradients, step decay along the budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ncbench.budget import Allowance
from ncbench.method.settings import TrainingSettings

FUSED = ("cpu", "cuda")  # types of devices on which one call updates all weights


def check_scalar(loss: object, name: str) -> None:
    """Raise ValueError, calling it `name`, unless `loss` is a tensor of one number."""
    if not isinstance(loss, Tensor):
        raise ValueError(f"{name} must be a tensor, found {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(f"{name} must be a scalar, found shape {tuple(loss.shape)}; return its mean or sum")


class Optimiser:
    """Adam over `networks` with gradient-norm clipping.

    The learning rate is multiplied by `decay` each time another share `decay_every` of the budget is spent, counted
    from `decay_from`: lr * decay ** floor((progress - decay_from) / decay_every).
    With `weight_decay`, which is decoupled from the gradient, it is AdamW.
    """

    def __init__(
        self,
        networks: Iterable[nn.Module],
        budget: Allowance,
        *,
        lr: float,
        clip: float = math.inf,
        decay_from: float = 0.0,
        decay_every: float = math.inf,
        decay: float = 0.1,
        weight_decay: float = 0.0,
    ) -> None:
        self._weights = [weight for network in networks for weight in network.parameters()]
        fused = all(weight.device.type in FUSED for weight in self._weights)
        self._adam: torch.optim.Optimizer
        if weight_decay:
            self._adam = torch.optim.AdamW(self._weights, lr, weight_decay=weight_decay, fused=fused)
        else:
            self._adam = torch.optim.Adam(self._weights, lr, fused=fused)
        self._budget = budget
        self._lr, self._clip = lr, clip
        self._decay_from, self._decay_every, self._decay = decay_from, decay_every, decay

    @classmethod
    def of(
        cls, settings: TrainingSettings, networks: Iterable[nn.Module], budget: Allowance, decay_from: float = 0.0
    ) -> Optimiser:
        """Return the optimiser with the learning rate, decay and clipping of `settings`."""
        return cls(
            networks,
            budget,
            lr=settings.lr,
            clip=settings.clip,
            decay_from=decay_from,
            decay_every=settings.decay_every,
        )

    @property
    def lr(self) -> float:
        """The current learning rate."""
        passed = max(0.0, self._budget.progress - self._decay_from)
        return self._lr * self._decay ** math.floor(passed / self._decay_every)

    def step(self, loss: Tensor) -> None:
        """Update the weights by the gradient of `loss`."""
        self.accumulate(loss)
        self.apply()

    def accumulate(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to those of the next `apply`. Raises ValueError unless it is a scalar."""
        check_scalar(loss, "the loss")
        loss.backward()  # type: ignore[no-untyped-call]

    def apply(self) -> None:
        """Update the weights by the accumulated gradients, then clear these."""
        nn.utils.clip_grad_norm_(self._weights, self._clip)
        for group in self._adam.param_groups:
            group["lr"] = self.lr
        self._adam.step()
        self._adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of Adam. The schedule depends on the budget and has no state."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._adam.load_state_dict(state)
