"""A GRU layer over packed sequences that trains faster on CPUs than torch's.

Both directions go through one loop, whose steps write into tensors of all steps, and the gradient of the recurrent
weights is one product for all steps; torch computes one per step, each as large as the weights. Without gradients and
on other devices, torch's GRU is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ncbench.backbones.derivatives import differentiable_gradients

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def run_gru(gru: nn.GRU, packed: PackedSequence) -> PackedSequence:
    """Return the states of a one-layer GRU, one- or bidirectional, over `packed` (T, W) words: (T, directions E)."""
    if packed.data.device.type != "cpu" or not torch.is_grad_enabled():
        states: PackedSequence = gru(packed)[0]
        return states
    return packed._replace(data=torch.cat(_directions(gru, packed, _Rows.of(packed.batch_sizes)), 1))


def mean_states(gru: nn.GRU, packed: PackedSequence) -> Tensor:
    """Return the mean of the two directions' states of a bidirectional GRU: (C, L, E), zero beyond each sequence.

    `packed` has C sequences, the longest with L words.
    """
    if packed.data.device.type != "cpu" or not torch.is_grad_enabled():
        states, _ = pad_packed_sequence(run_gru(gru, packed), batch_first=True)
        forward, backward = states.chunk(2, dim=-1)
        return (forward + backward) / 2
    rows = _Rows.of(packed.batch_sizes)
    forward, backward = _directions(gru, packed, rows)
    mean = (forward + backward) / 2
    sequences = rows.sequences if packed.sorted_indices is None else packed.sorted_indices[rows.sequences]
    longest, count = len(packed.batch_sizes), int(packed.batch_sizes[0])
    padded = mean.new_zeros(count * longest, mean.shape[1]).index_copy_(0, sequences * longest + rows.steps, mean)
    return padded.view(count, longest, -1)


def _directions(gru: nn.GRU, packed: PackedSequence, rows: _Rows) -> tuple[Tensor, ...]:
    """Return the states of each direction, (T, E); `rows` are those of `packed`."""
    suffixes = ("", "_reverse") if gru.bidirectional else ("",)
    of_input, of_state, input_bias, state_bias = (
        torch.stack([getattr(gru, f"{name}_l0{suffix}") for suffix in suffixes])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    words = packed.data[None]
    if gru.bidirectional:  # the other direction reads every sequence from its end, so both have the same steps
        reverse = rows.reversed()
        words = torch.stack([packed.data, _Exchange.apply(packed.data, reverse)])  # type: ignore[no-untyped-call]
    gates = torch.baddbmm(input_bias[:, None], words, of_input.mT)
    sizes = packed.batch_sizes.tolist()
    states: Tensor = _Recurrence.apply(gates, of_state, state_bias, sizes)  # type: ignore[no-untyped-call]
    if not gru.bidirectional:
        return (states[0],)
    forward, backward = states.unbind()
    return forward, _Exchange.apply(backward, reverse)  # type: ignore[no-untyped-call]


class _Exchange(torch.autograd.Function):
    """`rows` (T, W) in the order of `places` (T,), which is its own inverse. Indexing has a slower gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return _Exchange.apply(grad, places), None  # type: ignore[no-untyped-call]


class _Rows(NamedTuple):
    """Of each row of packed sequences: its time step, its sequence, and that sequence's length; (T,) int64.

    `starts` (L,) are the first rows of the time steps.
    """

    steps: Tensor
    sequences: Tensor
    lengths: Tensor
    starts: Tensor

    @staticmethod
    def of(batch_sizes: Tensor) -> _Rows:
        starts = batch_sizes.cumsum(0) - batch_sizes
        steps = torch.arange(len(batch_sizes)).repeat_interleave(batch_sizes)
        sequences = torch.arange(len(steps)) - starts[steps]
        lengths = (batch_sizes[:, None] > torch.arange(int(batch_sizes[0]))).sum(0)
        return _Rows(steps, sequences, lengths[sequences], starts)

    def reversed(self) -> Tensor:
        """Return, for each row, the row of the same sequence in reversed order."""
        return self.starts[self.lengths - 1 - self.steps] + self.sequences


def _before(states: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """Yield, for each time step but the first, the states (D, rows, E) of its sequences one step before: views."""
    for state, rows in zip(torch.split(states, sizes, 1), sizes[1:], strict=False):
        yield state if rows == state.shape[1] else state[:, :rows]


def _states(gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
    """Return the states (D, T, E) of D directions, by operations that autograd differentiates.

    r = s(i_r + h_r), z = s(i_z + h_z), n = tanh(i_n + r h_n), h' = n + z (h - n), with (h_r, h_z, h_n) = W h + b and
    the i from `gates` (D, T, 3 E), the words' input. `weight` is (D, 3 E, E), and `bias` (D, 3 E).
    """
    width = weight.shape[2]
    state = gates.new_zeros(len(gates), sizes[0], width)
    found = []
    for of_input in torch.split(gates, sizes, 1):
        state = state[:, : of_input.shape[1]]
        of_state = torch.baddbmm(bias[:, None], state, weight.mT)
        reset, update = (of_input + of_state)[..., : 2 * width].sigmoid().chunk(2, -1)
        new = (of_input[..., 2 * width :] + reset * of_state[..., 2 * width :]).tanh()
        state = torch.lerp(new, state, update)
        found.append(state)
    return torch.cat(found, 1)


class _Recurrence(torch.autograd.Function):
    """What `_states` computes. All steps write into the same few tensors.

    Their views are made by one `split` for all steps, which is faster than one by one.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        width = weight.shape[2]
        states, new = (gates.new_empty(*gates.shape[:2], width) for _ in range(2))
        of_state = torch.empty_like(gates)  # of its three parts, the first two become the reset and the update gate
        of_gates, of_candidates = torch.split(gates, [2 * width, width], -1)
        parts = (of_gates, of_candidates, of_state, of_state[..., : 2 * width], *of_state.chunk(3, -1), new, states)
        biases, transposed = bias[:, None], weight.mT
        earlier = (None, *_before(states, sizes))
        for before, of_gate, of_candidate, recurrent, both, reset, update, of_new, candidate, state in zip(
            earlier, *(torch.split(part, sizes, 1) for part in parts), strict=True
        ):
            if before is None:
                recurrent.copy_(biases)
            else:
                torch.baddbmm(biases, before, transposed, out=recurrent)
            both.add_(of_gate).sigmoid_()
            torch.addcmul(of_candidate, reset, of_new, out=candidate).tanh_()
            if before is None:
                torch.addcmul(candidate, candidate, update, value=-1, out=state)
            else:
                torch.lerp(candidate, before, update, out=state)
        ctx.sizes = sizes
        ctx.save_for_backward(gates, weight, bias, states, new, of_state)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight, bias, states, new, of_state = ctx.saved_tensors
        sizes = ctx.sizes
        if torch.is_grad_enabled():  # for second derivatives
            return *differentiable_gradients(partial(_states, sizes=sizes), (gates, weight, bias), grad), None
        first, width = sizes[0], weight.shape[2]
        earlier = list(_before(states, sizes))
        held = torch.cat(earlier, 1) if earlier else states[:, :0]
        of_states = grad.clone(memory_format=torch.contiguous_format)
        of_new, of_gates = torch.empty_like(new), torch.empty_like(of_state)
        to_reset, to_update, to_recurrent = of_gates.chunk(3, -1)
        torch.neg(new[:, :first], out=to_update[:, :first])  # the states before the first step are zero
        torch.sub(held, new[:, first:], out=to_update[:, first:])
        parts = (*of_state.chunk(3, -1), of_state[..., : 2 * width], new, of_states, of_new)
        targets = (to_reset, to_update, to_recurrent, of_gates[..., : 2 * width], of_gates)
        views = zip(
            (None, *_before(of_states, sizes)),
            *(torch.split(part, sizes, 1) for part in (*parts, *targets)),
            strict=True,
        )
        for step in reversed(list(views)):
            of_before, reset, update, recurrent, both, candidate, carried, inner, *to = step
            to_reset, to_update, to_recurrent, to_both, to_all = to
            tanh_backward(torch.addcmul(carried, carried, update, value=-1), candidate, grad_input=inner)
            torch.mul(inner, recurrent, out=to_reset)
            to_update.mul_(carried)
            torch.mul(inner, reset, out=to_recurrent)
            sigmoid_backward(to_both, both, grad_input=to_both)
            if of_before is not None:
                of_before.addcmul_(carried, update).baddbmm_(to_all, weight)
        of_bias = of_gates.sum(1)
        of_weight = of_gates[:, first:].mT @ held
        of_gates[..., 2 * width :] = of_new  # what comes from the words is not reset
        return of_gates, of_weight, of_bias, None
