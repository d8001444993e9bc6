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


def _recurrent(rows: Tensor, of_input: Tensor, of_state: Tensor, *_: object, **__: object) -> int:
    """Return the FLOPs of a recurrent layer over `rows` (..., W), in one direction."""
    return 2 * rows.numel() // rows.shape[-1] * (of_input.numel() + of_state.numel())


def _recurrent_backward(rows: Tensor, of_input: Tensor, of_state: Tensor, *_: object, **__: object) -> int:
    return 2 * _recurrent(rows, of_input, of_state)


def _attention(query: Tensor, *given: Any, **_: object) -> int:
    """Return the FLOPs of attention within sequences (B, L, E), its four maps included."""
    width, qkv, out = (given[number] for number in (2, 4, 6))
    return _within(query, width, qkv, out)


def _transformer_layer(sequences: Tensor, *given: Any, **_: object) -> int:
    """Return the FLOPs of a layer of a transformer over sequences (B, L, E)."""
    width, qkv, out, up, down = (given[number] for number in (0, 2, 4, 13, 15))
    return _within(sequences, width, qkv, out, up, down)


def _within(sequences: Tensor, width: int, *maps: Tensor) -> int:
    rows, length = sequences.numel() // sequences.shape[-1], sequences.shape[-2]
    return 2 * rows * sum(weights.numel() for weights in maps) + 4 * rows * length * width


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
    _ATEN.mkldnn_rnn_layer: _recurrent,
    _ATEN.mkldnn_rnn_layer_backward: _recurrent_backward,
    _ATEN._native_multi_head_attention: _attention,
    _ATEN._transformer_encoder_layer_fwd: _transformer_layer,
}
"""FLOPs of operations: torch's formulas, and those that it lacks: for the same products added in place or summed, for
attention and recurrent layers on CPUs, and for layers of transformers without gradients."""

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
