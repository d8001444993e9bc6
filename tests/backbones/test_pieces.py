"""Spans and groups: every item is in exactly one, in order; none is larger than asked for or padded too much."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncbench.backbones import pieces
from ncbench.backbones.pieces import PADDING_SHARE, group_sizes, piece_bytes, spans


@given(total=st.integers(0, 60), size=st.integers(-3, 70))
def test_spans_cover_every_item_once(total: int, size: int) -> None:
    found = list(spans(total, size))
    assert [item for span in found for item in range(total)[span]] == list(range(total))
    lengths = [span.stop - span.start for span in found]
    assert all(length == max(1, size) for length in lengths[:-1])
    assert all(1 <= length <= max(1, size) for length in lengths[-1:])


def test_spans_of_a_worked_example() -> None:
    assert list(spans(7, 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(spans(2, 0)) == [slice(0, 1), slice(1, 2)]
    assert list(spans(0, 3)) == []


def test_bytes_of_a_piece_depend_on_the_kind_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "CPU_BYTES", 5)
    monkeypatch.setattr(pieces, "DEVICE_BYTES", 7)
    assert piece_bytes(torch.device("cpu")) == 5
    assert piece_bytes(torch.device("cuda", 1)) == 7
    assert piece_bytes(torch.device("meta")) == 7


def test_pieces_are_larger_where_memory_is_no_cache() -> None:
    assert 0 < pieces.CPU_BYTES < pieces.DEVICE_BYTES


ASCENDING = st.lists(st.integers(1, 12), min_size=1, max_size=25).map(sorted)


def padding_of(group: list[int]) -> int:
    return sum(max(group) - length for length in group)


def split(lengths: list[int], sizes: list[int]) -> list[list[int]]:
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [lengths[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@given(lengths=ASCENDING, word_bytes=st.integers(1, 40), piece=st.integers(0, 40_000))
def test_groups_take_captions_until_padding_passes_its_share(lengths: list[int], word_bytes: int, piece: int) -> None:
    groups = split(lengths, group_sizes(lengths, word_bytes, piece))
    assert [length for group in groups for length in group] == lengths
    assert all(groups)
    allowed = piece * PADDING_SHARE
    assert all(padding_of(group) * word_bytes <= allowed for group in groups)
    for group, following in pairwise(groups):
        assert padding_of([*group, following[0]]) * word_bytes > allowed


@given(lengths=ASCENDING, word_bytes=st.integers(1, 40))
def test_a_tiny_piece_groups_equal_lengths_and_a_huge_one_all(lengths: list[int], word_bytes: int) -> None:
    assert group_sizes(lengths, word_bytes, 0) == [lengths.count(length) for length in sorted(set(lengths))]
    assert group_sizes(lengths, word_bytes, 2**60) == [len(lengths)]


@given(length=st.integers(1, 99), count=st.integers(1, 99), piece=st.integers(0, 99))
def test_equal_lengths_are_one_group(length: int, count: int, piece: int) -> None:
    assert group_sizes([length] * count, 4, piece) == [count]


@pytest.mark.parametrize(
    ("words", "sizes"),  # of padding in a group, at most; 3, 3, 5, 6, 9 as one group has 19
    [(0, [2, 1, 1, 1]), (1, [2, 2, 1]), (3, [2, 2, 1]), (4, [3, 2]), (6, [3, 2]), (7, [4, 1]), (18, [4, 1]), (19, [5])],
)
def test_group_sizes_of_a_worked_example(words: int, sizes: list[int]) -> None:
    assert group_sizes([3, 3, 5, 6, 9], 10, int(words * 10 / PADDING_SHARE)) == sizes
