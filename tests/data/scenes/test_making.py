"""Looking at pictures in several processes, and what users are told meanwhile."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from rich.console import Console

from ncbench.data.scenes import making
from ncbench.data.scenes.making import jobs_of, look_at, progress, workers_for
from ncbench.data.scenes.sample import Seen, Series

SERIES = Series("2", 1, "dev")


def test_units_of_work_cover_all_pictures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "CHUNK_SIZE", 4)
    assert [(start, end) for _, start, end in jobs_of(SERIES, 3, 12)] == [(3, 7), (7, 11), (11, 12)]
    assert jobs_of(SERIES, 5, 5) == []


def test_what_is_seen_is_in_order_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "CHUNK_SIZE", 2)
    done: list[int] = []
    seen = Seen.join(look_at(jobs_of(SERIES, 0, 3), None, done.append))
    assert done == [2, 1]
    whole = Seen.of(SERIES, 0, 3)
    np.testing.assert_array_equal(seen.features, whole.features)
    np.testing.assert_array_equal(seen.fingerprints, whole.fingerprints)


def test_processes_that_cannot_start_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenProcessPool("cannot start")

    monkeypatch.setattr(ProcessPoolExecutor, "map", broken)
    with workers_for(2, 2) as pool:
        assert pool is not None
        (seen,) = look_at(jobs_of(SERIES, 0, 1), pool, lambda pictures: None)
    assert len(seen) == 1


@pytest.mark.parametrize(("jobs", "workers"), [(1, 2), (2, 1), (0, 2)])
def test_one_process_is_used_directly(jobs: int, workers: int) -> None:
    with workers_for(jobs, workers) as pool:
        assert pool is None


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "1 s"), (6.4, "6 s"), (89, "89 s"), (100, "2 min")])
def test_without_a_terminal_a_line_says_what_is_made(
    seconds: float, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("scenes", 10, seconds) as advance:
        advance(4)
    assert capsys.readouterr().err == f"making the dataset scenes, once (about {told})\n"


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(stderr=True, force_terminal=True, width=150))
    with progress("scenes", 10, 3) as advance:
        advance(4)
        advance(6)
    shown = capsys.readouterr().err
    assert "making the dataset scenes, once (about 3 s)" in shown
    assert "10/10" in shown
    assert "pictures, left:" in shown
