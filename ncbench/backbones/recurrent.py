"""A GRU layer over packed sequences with a faster backward pass on CPUs.

For the gradient of the recurrent weights, torch computes one matrix product per step, and each writes the whole weight
matrix: a third of the backward pass at the published size. Here it is one product for all steps. Without gradients and
on other devices, torch's GRU is used.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from ncbench.backbones.derivatives import differentiable_gradients


def run_gru(gru: nn.GRU, packed: PackedSequence) -> PackedSequence:
    """Return the states of a one-layer GRU, one- or bidirectional, over `packed` (T, W) words: (T, directions E)."""
    if packed.data.device.type != "cpu" or not torch.is_grad_enabled():
        states: PackedSequence = gru(packed)[0]
        return states
    sizes = packed.batch_sizes.tolist()
    directions = [("", False), ("_reverse", True)][: 2 if gru.bidirectional else 1]
    data = torch.cat([_direction(gru, suffix, packed.data, sizes, back) for suffix, back in directions], 1)
    return packed._replace(data=data)


def _direction(gru: nn.GRU, suffix: str, data: Tensor, sizes: list[int], backwards: bool) -> Tensor:
    of_input, of_state, input_bias, state_bias = (
        getattr(gru, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    gates = functional.linear(data, of_input, input_bias)
    states: Tensor = _Recurrence.apply(gates, of_state, state_bias, sizes, backwards)  # type: ignore[no-untyped-call]
    return states


def _steps(sizes: list[int], backwards: bool) -> list[tuple[int, int]]:
    """Return the first row and the number of rows of each time step of packed sequences, in reading order."""
    steps = list(zip(accumulate(sizes, initial=0), sizes, strict=False))
    return steps[::-1] if backwards else steps


def _fit(state: Tensor, rows: int) -> Tensor:
    """Return the states of the first `rows` sequences; those that start at this step have a zero state."""
    return state[:rows] if rows <= len(state) else functional.pad(state, (0, 0, 0, rows - len(state)))


def _recur(gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int], backwards: bool) -> list[Tensor]:
    """Return, for all steps: state, previous state, reset gate, update gate, candidate and its recurrent part.

    r = s(i_r + h_r), z = s(i_z + h_z), n = tanh(i_n + r h_n), h' = n + z (h - n), with (h_r, h_z, h_n) = W h + b and
    the i from `gates` (T, 3 E), the words' input. All (T, E).
    """
    width = weight.shape[1]
    state = gates.new_zeros(0, width)
    kept: list[tuple[Tensor, ...]] = []
    for start, rows in _steps(sizes, backwards):
        state = _fit(state, rows)
        of_input, of_state = gates[start : start + rows], functional.linear(state, weight, bias)
        reset, update = (of_input[:, : 2 * width] + of_state[:, : 2 * width]).sigmoid().chunk(2, 1)
        recurrent = of_state[:, 2 * width :]
        new = (of_input[:, 2 * width :] + reset * recurrent).tanh()
        before, state = state, torch.lerp(new, state, update)
        kept.append((state, before, reset, update, new, recurrent))
    return [torch.cat(parts[::-1] if backwards else parts) for parts in zip(*kept, strict=True)]


def _states(gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int], backwards: bool) -> Tensor:
    return _recur(gates, weight, bias, sizes, backwards)[0]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int], backwards: bool) -> Tensor:
        states, *kept = _recur(gates, weight, bias, sizes, backwards)
        ctx.sizes, ctx.backwards = sizes, backwards
        ctx.save_for_backward(gates, weight, bias, *kept)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight, bias, before, reset, update, new, recurrent = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            plain = partial(_states, sizes=ctx.sizes, backwards=ctx.backwards)
            return *differentiable_gradients(plain, (gates, weight, bias), grad), None, None
        # Factors from the gradient of a state to those of the three gates, for all steps at once.
        to_new = (1 - update) * (1 - new.square())
        to_reset = to_new * recurrent * reset * (1 - reset)
        to_update = (before - new) * update * (1 - update)
        factors = torch.cat([to_reset, to_update, to_new * reset], 1)
        of_states = torch.empty_like(factors)
        carried = grad.new_zeros(0, weight.shape[1])
        of_new = torch.empty_like(grad)
        for start, rows in reversed(_steps(ctx.sizes, ctx.backwards)):
            step = slice(start, start + rows)
            carried = _fit(carried, rows) + grad[step]
            torch.mul(factors[step].view(rows, 3, -1), carried[:, None], out=of_states[step].view(rows, 3, -1))
            torch.mul(to_new[step], carried, out=of_new[step])
            carried = torch.addmm(carried * update[step], of_states[step], weight)
        of_gates = torch.cat([of_states[:, : 2 * weight.shape[1]], of_new], 1)
        return of_gates, of_states.T @ before, of_states.sum(0), None, None
