"""The loop of training: epochs of a method, update by update, under a meter."""

from __future__ import annotations

from dataclasses import replace

import torch

from ncbench.backbones.base import Backbone, OnWork, Sizes
from ncbench.backbones.precision import Precision
from ncbench.backbones.registry import build_backbone


class Workshop:
    """Makes the backbones of a method, `sizes` large and on its device, and keeps them in `made`.

    A method holds it as `Task.new_backbone`: it knows nothing of the run but what a method may know.
    """

    def __init__(self, name: str, sizes: Sizes, device: torch.device, precision: Precision, on_work: OnWork) -> None:
        self.made: list[Backbone] = []
        self._name, self._sizes, self._device = name, sizes, device
        self._precision, self._on_work = precision, on_work

    def __call__(self, *, head: int = 0) -> Backbone:
        """Return a freshly initialised backbone, with a head of so many hidden units if asked."""
        backbone = build_backbone(self._name, replace(self._sizes, head=head)).to(self._device)
        backbone.on_work = self._on_work
        backbone.use_precision(self._precision)
        self.made.append(backbone)
        return backbone
