"""Datasets of one name are told apart by as many digits as it takes."""

from __future__ import annotations

from ncbench.data.same_names import told_apart


def test_names_with_one_content_stay_as_they_are() -> None:
    assert told_apart([("a", "1" * 64), ("b", "1" * 64), ("a", "1" * 64)]) == {
        ("a", "1" * 64): "a",
        ("b", "1" * 64): "b",
    }
    assert told_apart([]) == {}


def test_names_with_several_contents_get_digits() -> None:
    found = told_apart([("a", "1" * 64), ("a", "2" * 64), ("b", "3" * 64)])
    assert set(found.values()) == {"a@11111111", "a@22222222", "b"}


def test_digests_with_the_same_first_digits_are_told_apart() -> None:
    one, other = "1" * 63 + "2", "1" * 63 + "3"
    assert told_apart([("a", one), ("a", other)]) == {("a", one): f"a@{one}", ("a", other): f"a@{other}"}
    assert told_apart([("a", ""), ("a", "12")]) == {("a", ""): "a@", ("a", "12"): "a@12"}
