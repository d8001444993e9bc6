"""Kinds of parameters: what they accept and what they make of it."""

from __future__ import annotations

import click
import pytest

from ncbench.cli.parameters import BUDGETS, NAMES, RATIOS, SEEDS, CommaList


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (NAMES, "a", ("a",)),
        (NAMES, "b,a", ("b", "a")),
        (NAMES, " a , b ", ("a", "b")),
        (NAMES, "a,b,a", ("a", "b")),
        (RATIOS, "0", (0.0,)),
        (RATIOS, "0.2,.4,0.999", (0.2, 0.4, 0.999)),
        (RATIOS, "0.2,2e-1,0.20", (0.2,)),
        (BUDGETS, "0.5,2", (0.5, 2.0)),
        (BUDGETS, "1,1.0", (1.0,)),
        (SEEDS, "3,0", (3, 0)),
        (SEEDS, "1,01", (1,)),
    ],
)
def test_lists(kind: CommaList, text: str, expected: tuple[object, ...]) -> None:
    found = kind.convert(text, None, None)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize("text", ["", ",", "a,", ",a", "a,,b", " ", "a, ,b"])
def test_empty_items(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        NAMES.convert(text, None, None)
    assert caught.value.message == f"{text!r} has an empty item; write it as A,B,C."


@pytest.mark.parametrize("text", ["1", "1.0", "-0.1", "-1e-9", "nan", "inf", "-inf", "x", "40%", "0.2;0.4", "1e400"])
def test_ratios_out_of_range(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        RATIOS.convert(f"0.2,{text}", None, None)
    expected = f"{text!r} is not a noise ratio; it must be at least 0 and below 1, for example 0.4."
    assert caught.value.message == expected


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e400", "-0.0"])
def test_budgets_out_of_range(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        BUDGETS.convert(text, None, None)
    assert caught.value.message == f"{text!r} is not a number above 0."


@pytest.mark.parametrize("text", ["x", "1.5", "0-3", "1e3"])
def test_seeds_that_are_no_integers_are_called_so(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        SEEDS.convert(text, None, None)
    assert f"'{text}' is not a" in caught.value.message
    assert "range" not in caught.value.message  # "not a valid integer range" sounds as if 0-3 would be right


def test_defaults_are_lists_already() -> None:
    assert NAMES.convert(("a", "b"), None, None) == ("a", "b")
