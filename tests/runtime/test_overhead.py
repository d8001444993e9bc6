"""Training time outside the networks: by use, without double counting, and restored after a resume."""

from __future__ import annotations

import pytest

from ncbench.runtime import overhead
from ncbench.runtime.overhead import reset, spent, timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: now[0])
    reset({})
    return now


def test_uses_are_counted_apart_and_nested_ones_once(clock: list[float]) -> None:
    @timed("mixture")
    def fit() -> int:
        clock[0] += 2
        return 7

    assert fit() == fit() == 7
    with timed("transport"):
        clock[0] += 1
        fit()
    assert spent() == {"mixture": 4.0, "transport": 3.0}
    reset({"mixture": 10.0})
    fit()
    assert spent() == {"mixture": 12.0}


def test_an_error_ends_the_time(clock: list[float]) -> None:
    @timed("transport")
    def fail() -> None:
        clock[0] += 5
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    clock[0] += 100
    assert spent() == {"transport": 5.0}
