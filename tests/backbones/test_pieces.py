"""Pieces: every item is in exactly one, none is larger than asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncbench.backbones import pieces
from ncbench.backbones.pieces import piece_bytes, spans


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
