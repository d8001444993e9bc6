"""The benchmark of a dataset of full size starts, here on a small one."""

from __future__ import annotations

import full_size
import pytest
from places import FIXTURES


@pytest.mark.parametrize("order", ["random", "in order"])
def test_batches_are_measured(order: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(full_size, "BATCH", 8)
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    found = full_size.batching(FIXTURES / "f30k", 12, order, False, 0.0)  # more than one pass
    assert found["batches_per_second"] > 0
    assert found["share_waited"] == 1.0


def test_opening_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    assert full_size.opening(FIXTURES / "f30k", False)["seconds"] > 0
