"""Rows in descending order, against torch's stable sort."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncbench.backbones.descending import sort_descending

SPECIAL = [0.0, -0.0, 1.5, -1.5, 1e-45, -1e-45, 3.4e38, -3.4e38, float("inf"), float("-inf"), -1e4, 1.5]


def expected(values: Tensor) -> Tensor:
    return values.sort(dim=-1, descending=True, stable=True).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 5), (4, 6, 22), (2, 0)])
def test_rows_are_sorted(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sort_descending(values), expected(values), rtol=0, atol=0)


def test_extreme_values_and_both_signs() -> None:
    torch.testing.assert_close(sort_descending(torch.tensor(SPECIAL)), expected(torch.tensor(SPECIAL)), rtol=0, atol=0)


def test_views_are_not_changed() -> None:
    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    before = values.clone()
    torch.testing.assert_close(sort_descending(values.T), expected(before.T), rtol=0, atol=0)
    assert torch.equal(values, before)


def test_gradients_go_to_where_values_came_from_and_to_the_first_of_ties() -> None:
    values = torch.tensor([[2.0, 5.0, 2.0, 1.0]], requires_grad=True)
    sort_descending(values).mul(torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[10.0, 1.0, 100.0, 1000.0]]
