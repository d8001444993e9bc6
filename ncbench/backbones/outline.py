"""Backbones without weights, for their cost formulas and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone


class _Uninitialised(TorchFunctionMode):
    """Skips `torch.nn.init`: on the meta device, it draws nothing but imports 800 modules, which takes a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def outline(name: str, sizes: Sizes) -> Backbone:
    """Return a backbone on the meta device, whose weights have shapes but no values. Raises UserError."""
    with torch.device("meta"), _Uninitialised():
        return build_backbone(name, sizes)
