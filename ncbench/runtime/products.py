"""Counts the FLOPs of the matrix products and convolutions that torch computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_ATEN = torch.ops.aten


FORMULAS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    _ATEN.addmm_: flop_registry[_ATEN.addmm],
    _ATEN.baddbmm_: flop_registry[_ATEN.baddbmm],
    _ATEN.addbmm: flop_registry[_ATEN.baddbmm],
    _ATEN.addbmm_: flop_registry[_ATEN.baddbmm],
    _ATEN._scaled_dot_product_flash_attention_for_cpu: flop_registry[_ATEN._scaled_dot_product_flash_attention],
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _ATEN._scaled_dot_product_flash_attention_backward
    ],
}
"""FLOPs of operations: torch's formulas, and those that it lacks: for the same products added in place or summed, and
for attention on CPUs."""

Found = TypeVar("Found")


class ProductCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of the products that torch computes in this thread, by `FORMULAS`, in `flops`.

    `frozen` counts those of them without a factor that needs a gradient, which have no backward pass.
    `torch.utils.flop_counter.FlopCounterMode` follows modules too, which takes longer than all else in an update.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.frozen = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would import its compiler, 800 modules in a second, to hide this from it."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, and count what it computes."""
        found = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            flops = int(formula(*args, **(kwargs or {}), out_val=found))
            self.flops += flops
            if not any(factor.requires_grad for factor in tensors_in(args)):
                self.frozen += flops
        return found


def tensors_in(values: object) -> Iterable[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def counting(function: Callable[[], Found]) -> tuple[Found, int]:
    """Return what `function` returns, and the FLOPs of the products that torch computed for it in this thread."""
    with ProductCounter() as counter:
        found = function()
    return found, counter.flops
