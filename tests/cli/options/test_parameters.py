"""Parameter types: accepted values and conversions."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ncbench.budget import Budget, Paper
from ncbench.cli.options.parameters import BUDGETS, NAMES, RATIOS, SEEDS, Bytes, CommaList


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
        (BUDGETS, "0.5,2m", (Budget(0.5), Budget(120, "seconds"))),
        (BUDGETS, "1,1.0", (Budget(1.0),)),
        (BUDGETS, "paper,5own-epochs", (Paper(), Budget(5, "own-epochs"))),
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
    assert caught.value.message == f"{text!r} has an empty item; expected A,B,C."


@pytest.mark.parametrize("text", ["1", "1.0", "-0.1", "-1e-9", "nan", "inf", "-inf", "x", "40%", "0.2;0.4", "1e400"])
def test_ratios_out_of_range(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        RATIOS.convert(f"0.2,{text}", None, None)
    expected = f"{text!r} is not a noise ratio; it must be at least 0 and below 1, for example 0.4, or natural "
    expected += "where pairs are mismatched by nature."
    assert caught.value.message == expected


@pytest.mark.parametrize(
    ("text", "message"), [("x", "'x' is not a valid budget. Use 5 ("), ("0", "must be positive, found 0.")]
)
def test_invalid_budgets(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        BUDGETS.convert(text, None, None)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("1k", 1024), ("1.5MiB", 3 * 2**19), ("2 GB", 2**31), ("1g", 2**30), ("2TiB", 2**41), ("7b", 7)],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert Bytes().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "5 apples", "1e9", "inf", "GiB"])
def test_invalid_amounts_of_memory(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        Bytes().convert(text, None, None)
    assert caught.value.message == f"{text!r} is not a valid amount of memory. Use 500MiB, 8GiB or a number of bytes."


@pytest.mark.parametrize("text", ["x", "1.5", "0-3", "1e3"])
def test_seeds_that_are_no_integers_are_called_so(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        SEEDS.convert(text, None, None)
    assert f"'{text}' is not a" in caught.value.message
    assert "range" not in caught.value.message  # "not a valid integer range" would suggest that 0-3 is valid


def test_commas_in_the_path_of_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "a, b,c.npy"
    path.touch()
    assert NAMES.convert(f"clean,file:{path},x,{path}", None, None) == ("clean", f"file:{path}", "x", str(path))
    path.unlink()
    assert len(NAMES.convert(f"file:{path}", None, None)) == 3


def test_defaults_are_lists_already() -> None:
    assert NAMES.convert(("a", "b"), None, None) == ("a", "b")
