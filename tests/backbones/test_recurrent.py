"""The GRU with one product for all steps, against torch's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ncbench.backbones.recurrent import run_gru

WORD, EMBED = 3, 4
LENGTHS = [
    pytest.param([4, 1, 6, 3, 6], id="ragged"),
    pytest.param([5, 3, 1], id="sorted"),
    pytest.param([1, 2, 7], id="ascending"),
    pytest.param([4], id="one-sequence"),
    pytest.param([1], id="one-word"),
    pytest.param([1, 1, 1], id="single-words"),
    pytest.param([3, 3, 3], id="all-alike"),
]


def make(bidirectional: bool) -> nn.GRU:
    torch.manual_seed(0)
    gru = nn.GRU(WORD, EMBED, batch_first=True, bidirectional=bidirectional).double()
    for weight in gru.parameters():  # large enough for gates to differ
        nn.init.uniform_(weight, -1.5, 1.5)
    return gru


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def words_of(lengths: list[int]) -> Tensor:
    return random(len(lengths), max(lengths), WORD, seed=1).requires_grad_()


def pack(words: Tensor, lengths: list[int]) -> PackedSequence:
    return pack_padded_sequence(words, torch.tensor(lengths), batch_first=True, enforce_sorted=False)


def forget(packed: PackedSequence) -> PackedSequence:
    """Return `packed` without the order of its sequences, which has no gradient."""
    return PackedSequence(packed.data, packed.batch_sizes)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_states_and_gradients_are_those_of_torch(lengths: list[int], bidirectional: bool) -> None:
    gru = make(bidirectional)
    results = []
    for run in (run_gru, lambda gru, packed: gru(packed)[0]):
        words = words_of(lengths)
        states, found = pad_packed_sequence(run(gru, pack(words, lengths)), batch_first=True)
        assert found.tolist() == lengths
        gru.zero_grad()
        (states * random(*states.shape, seed=2)).sum().backward()
        results.append({"states": states, "words": words.grad} | {k: w.grad for k, w in gru.named_parameters()})
    ours, theirs = results
    assert len(ours) == 2 + 4 * (1 + bidirectional)
    for key, expected in theirs.items():
        torch.testing.assert_close(ours[key], expected, rtol=1e-12, atol=1e-12, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("lengths", [[3, 1, 2], [2]])
def test_second_derivatives(lengths: list[int], bidirectional: bool) -> None:
    gru = make(bidirectional)
    names = [name for name, _ in gru.named_parameters()]
    packed = forget(pack(words_of(lengths).detach(), lengths))

    def states(data: Tensor, *weights: Tensor) -> Tensor:
        weighted = SimpleNamespace(bidirectional=bidirectional, **dict(zip(names, weights, strict=True)))
        return run_gru(weighted, packed._replace(data=data)).data

    inputs = (packed.data.requires_grad_(), *gru.parameters())
    assert torch.autograd.gradcheck(states, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(states, inputs, fast_mode=True)


@pytest.mark.parametrize("frozen", ["weight_hh", "bias_hh", "weight"])
def test_second_derivatives_with_frozen_weights(frozen: str) -> None:
    gru = make(bidirectional=True)
    for name, weight in gru.named_parameters():
        weight.requires_grad_(not name.startswith(frozen))
    lengths = [3, 1]
    results = []
    for run in (run_gru, lambda gru, packed: gru(packed)[0]):
        words = words_of(lengths)
        (first,) = torch.autograd.grad(run(gru, pack(words, lengths)).data.pow(3).sum(), words, create_graph=True)
        results.append(torch.autograd.grad(first.pow(2).sum(), words)[0])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_same_where_they_are_to_be_differentiated() -> None:
    gru, lengths = make(bidirectional=True), [2, 5, 3]
    words = words_of(lengths)
    inputs = (words, *gru.parameters())
    results = []
    for twice in (False, True):
        total = run_gru(gru, pack(words, lengths)).data.pow(3).sum()
        results.append(torch.autograd.grad(total, inputs, create_graph=twice))
    for once, again in zip(*results, strict=True):
        assert again.requires_grad
        torch.testing.assert_close(once, again, rtol=1e-12, atol=1e-12)


def test_gradients_of_words_that_depend_on_the_weights() -> None:
    """Gradients that flow through the words to the weights must not be counted twice."""
    lengths, results = [2, 5, 3], []
    for run, twice in ((lambda gru, packed: gru(packed)[0], False), (run_gru, False), (run_gru, True)):
        gru = make(bidirectional=True)
        words = words_of(lengths) * gru.weight_hh_l0.square().mean()
        total = run(gru, pack(words, lengths)).data.pow(3).sum()
        results.append(torch.autograd.grad(total, list(gru.parameters()), create_graph=twice))
    expected, *others = results
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_torchs_own_runs_on_other_devices_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def forward(packed: PackedSequence) -> tuple[PackedSequence, None]:
        ran.append(packed.data.device.type)
        return packed, None

    gru = make(bidirectional=False)
    monkeypatch.setattr(gru, "forward", forward)
    packed = forget(pack(words_of([2, 1]), [2, 1]))
    assert run_gru(gru, packed).data.shape == (3, EMBED)
    assert ran == []
    elsewhere = packed._replace(data=packed.data.to("meta"))
    assert run_gru(gru, elsewhere) is elsewhere
    assert ran == ["meta"]
