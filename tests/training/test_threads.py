"""What a run does to its processor: denormals are zero, and small steps get one thread, until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from believers import execute

from ncbench.data.dataset import Dataset
from ncbench.training.cost import (
    MIN_STEP_FOR_THREADS,
    denormals_flushed,
    is_small,
    threads_for,
)
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")


def denormals_are_flushed() -> bool:
    """Return whether this thread takes denormal numbers for zero."""
    return bool(torch.tensor([1e-40]) * 1.0 == 0)


def test_denormals_are_zero_in_a_run_and_not_after_it(tiny: Dataset, tmp_path: Path) -> None:
    seen: list[bool] = []
    assert not denormals_are_flushed()
    execute(tiny, tmp_path, "toy", budget=0.5, on_progress=lambda _: seen.append(denormals_are_flushed()))
    assert seen
    assert all(seen)
    assert not denormals_are_flushed()
    assert np.float64(5e-324) * 1.0 > 0


def test_denormals_are_back_after_a_failure(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        execute(tiny, tmp_path, "diverging")
    assert not denormals_are_flushed()


def test_denormals_are_back_after_an_error() -> None:
    with denormals_flushed():
        assert denormals_are_flushed()
    assert not denormals_are_flushed()
    with pytest.raises(ZeroDivisionError), denormals_flushed():
        raise ZeroDivisionError
    assert not denormals_are_flushed()


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use four threads, as where the user has not set OMP_NUM_THREADS."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("work", "small"),
    [(1, True), (MIN_STEP_FOR_THREADS - 1, True), (MIN_STEP_FOR_THREADS, False), (10**15, False)],
)
def test_small_steps_get_one_thread(work: int, small: bool, four_threads: None) -> None:
    assert is_small(work, CPU) is small
    with threads_for(work, CPU):
        assert torch.get_num_threads() == (1 if small else 4)
    assert torch.get_num_threads() == 4


def test_threads_are_left_alone_beside_an_accelerator(four_threads: None) -> None:
    assert not is_small(1, torch.device("cuda"))
    with threads_for(1, torch.device("cuda")):
        assert torch.get_num_threads() == 4


def test_threads_that_the_user_set_are_left_alone(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with threads_for(1, CPU):
        assert torch.get_num_threads() == 4


def test_threads_are_back_after_a_failure(four_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), threads_for(1, CPU):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


def test_a_tiny_run_trains_on_one_thread(tiny: Dataset, tmp_path: Path, four_threads: None) -> None:
    seen: set[int] = set()
    execute(tiny, tmp_path, "toy", budget=0.5, on_progress=lambda _: seen.add(torch.get_num_threads()))
    assert seen == {1}
    assert torch.get_num_threads() == 4
