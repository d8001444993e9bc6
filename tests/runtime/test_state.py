"""Captured state: supported types, copies, restoring, and errors for unsupported types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ncbench import Optimiser
from ncbench.budget import WorkMeter
from ncbench.runtime.sameness import differences
from ncbench.runtime.state import capture, restore


def make(seed: int = 0) -> nn.Sequential:
    """Return a network with weights and buffers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def train(net: nn.Module, optimiser: Optimiser, seed: int, updates: int = 3) -> None:
    data = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(updates):
        optimiser.step(net(torch.randn(5, 3, generator=data)).square().mean())


@pytest.mark.parametrize("value", [None, True, False, 3, -(2**70), 0.1, math.inf, "text", ""])
def test_plain_values_are_kept_as_they_are(value: object) -> None:
    assert capture(value) is value
    assert restore("something else", capture(value)) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.float64(0.1), 0.1), (np.int64(7), 7), (np.bool_(True), True), (np.float32(0.5), 0.5), (np.str_("x"), "x")],
)
def test_scalars_of_numpy_become_plain(value: np.generic, expected: object) -> None:
    found = capture(value)
    assert (type(found), found) == (type(expected), expected)


def test_arrays_and_tensors_are_copies() -> None:
    array, tensor = np.arange(3.0), torch.arange(3.0, requires_grad=True)
    kept = capture({"array": array, "tensor": tensor})
    array[0] = 9
    with torch.no_grad():
        tensor[0] = 9
    assert not differences(kept, {"array": np.array([0.0, 1, 2]), "tensor": torch.tensor([0.0, 1, 2])})
    assert not kept["tensor"].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_keep_their_type(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[1, 0, 3]]).to(dtype)
    assert not differences(restore(torch.zeros(5), capture(tensor)), tensor)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?", "U3"])
def test_arrays_keep_their_type(dtype: str) -> None:
    array = np.array([[1, 0, 3]]).astype(dtype)
    assert not differences(restore(np.zeros(5), capture(array)), array)


def test_a_view_is_kept_alone() -> None:
    whole = torch.zeros(1000)
    assert capture(whole[:2]).untyped_storage().nbytes() == 8


def test_networks_with_their_buffers() -> None:
    net = make()
    optimiser = Optimiser([net], WorkMeter(1), lr=0.1)
    train(net, optimiser, seed=1)
    kept, before = capture(net), {name: weight.clone() for name, weight in net.state_dict().items()}
    assert kept["1.num_batches_tracked"] == 3
    train(net, optimiser, seed=2)
    assert not differences(kept, before)
    other = make(seed=5)
    weights = list(other.parameters())
    assert restore(other, kept) is other
    assert not differences(dict(other.state_dict()), before)
    assert all(old is new for old, new in zip(weights, other.parameters(), strict=True))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_an_optimiser_goes_on_where_it_was(weight_decay: float) -> None:
    def pair() -> tuple[nn.Module, Optimiser]:
        net = make()
        return net, Optimiser([net], WorkMeter(1), lr=0.1, clip=0.5, weight_decay=weight_decay)

    net, optimiser = pair()
    train(net, optimiser, seed=1)
    kept = capture({"net": net, "optimiser": optimiser})
    train(net, optimiser, seed=2)

    other = dict(zip(("net", "optimiser"), pair(), strict=True))
    assert restore(other, kept) == other
    train(*other.values(), seed=2)  # type: ignore[arg-type]
    assert not differences(capture(other), capture({"net": net, "optimiser": optimiser}))

    forgetful = dict(zip(("net", "optimiser"), pair(), strict=True))
    restore(forgetful["net"], kept["net"])
    train(*forgetful.values(), seed=2)  # type: ignore[arg-type]
    assert differences(capture(forgetful["net"]), capture(net)), "the moments of Adam make no difference in this test"


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_a_generator_goes_on_where_it_was(kind: Callable[[int], np.random.BitGenerator]) -> None:
    rng = np.random.Generator(kind(3))
    rng.random(5)
    rng.integers(7, size=3, dtype=np.int32)  # leaves half of a 64-bit number for the next
    kept = capture(rng)
    expected = rng.integers(2**31, size=4, dtype=np.int32).tolist(), rng.random(10).tolist()
    other = np.random.Generator(kind(4))
    assert restore(other, kept) is other
    assert (other.integers(2**31, size=4, dtype=np.int32).tolist(), other.random(10).tolist()) == expected
    # The captured state is a copy.
    restore(other, kept)
    assert other.integers(2**31, size=4, dtype=np.int32).tolist() == expected[0]


def test_nested_values() -> None:
    def build(seed: int, fill: float) -> dict[Any, Any]:
        deep = {"deep": [torch.full((2,), fill), None, fill], "rng": np.random.default_rng(seed)}
        return {"nets": [make(seed), make(seed + 1)], "pair": (np.full(2, fill), deep), 1: "one"}

    value, other = build(0, 0.25), build(7, 0.75)
    kept = capture(value)
    assert isinstance(kept["pair"], list)
    back = restore(other, kept)
    assert not differences(capture(back), kept)
    assert differences(capture(build(7, 0.75)), kept)
    assert [type(back["pair"]), type(back["pair"][1]["deep"])] == [tuple, list]
    assert all(found is made for found, made in zip(back["nets"], other["nets"], strict=True))
    assert back["pair"][1]["rng"] is other["pair"][1]["rng"]
    assert back["pair"][1]["rng"].random() == value["pair"][1]["rng"].random()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (None, np.arange(3)),
        (None, torch.arange(3)),
        (None, [1, 2]),
        (None, 0.5),
        (torch.zeros(2), None),
        (np.zeros(2), None),
        ({}, {"first": 1, "second": [2, 3]}),
        ({"first": 1, "second": 2}, {"second": 5}),
        ([], [torch.ones(1), None]),
        ([1, 2, 3], [4]),
        ({"first": 1}, None),
        (3, None),
    ],
)
def test_what_has_no_like_is_taken_over(value: object, state: object) -> None:
    """Attributes that `setup` sets to None or an empty list get their values in the first epoch."""
    assert not differences(restore(value, state), state)


@pytest.mark.parametrize("value", [(1, 2), [1]])
def test_a_sequence_may_become_nothing(value: object) -> None:
    assert restore(value, capture(None)) is None


def test_restored_values_are_not_those_of_the_state() -> None:
    """A state can be restored twice: in-place training after the first restore must not change it."""
    rng, net = np.random.default_rng(0), make()
    optimiser = Optimiser([net], WorkMeter(1), lr=0.1)
    train(net, optimiser, seed=1)
    value: dict[str, Any] = {"array": np.zeros(3), "none": None, "tensor": torch.zeros(3)}
    value |= {"net": net, "optimiser": optimiser, "rng": rng}
    kept = capture({**value, "none": np.zeros(2)})
    before = capture(kept)
    found = restore(value, kept)
    found["array"] += 1
    found["none"] += 1
    found["tensor"] += 1
    rng.random()
    train(net, optimiser, seed=2)
    assert not differences(kept, before)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "cannot save method.queue: type set is not supported"),
        (iter([]), "cannot save method.queue: type list_iterator is not supported"),
        (len, "cannot save method.queue: type builtin_function_or_method is not supported"),
        (torch.Generator(), "cannot save method.queue: type Generator is not supported"),
        ([0, {"a": (1, b"")}], "cannot save method.queue[1]['a'][1]: type bytes is not supported"),
        ({3: 1j}, "cannot save method.queue[3]: type complex is not supported"),
    ],
)
def test_unsupported_types_are_named(value: object, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        capture(value, "method.queue")
    assert str(caught.value) == message


def test_a_value_without_a_name() -> None:
    with pytest.raises(TypeError, match=r"^cannot save value\[0\]: type object"):
        capture([object()])
