"""Networks without weights, for their shapes and costs: on the meta device, where they take neither memory nor time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from ncbench.runtime.rng_state import host_generators_kept

if TYPE_CHECKING:
    from ncbench.backbones.base import Backbone, Sizes

Found = TypeVar("Found")


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


def weightless(kind: type[Backbone], sizes: Sizes) -> Backbone:
    """Return a backbone whose weights have shapes but no values; with values if its constructor needs some.

    Global random number generators are left as they are. Raises what the constructor raises.
    """
    with host_generators_kept():
        try:
            with torch.device("meta"), _Uninitialised():
                return kind(sizes)
        except Exception:
            return with_weights(kind, sizes)


def with_weights(kind: type[Backbone], sizes: Sizes) -> Backbone:
    """Return a backbone on the CPU."""
    with torch.device("cpu"):
        return kind(sizes)
