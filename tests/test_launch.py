"""Runs in several processes: the same records, and a sweep that ends whatever becomes of a process."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ncbench import UserError, launch, runner
from ncbench.launch import default_jobs
from ncbench.runner import Progress
from ncbench.settings import Override
from ncbench.store import Store
from ncbench.sweep import Grid, Outcome, PlannedRun, plan_sweep, run_sweep

CPU = torch.device("cpu")
SIZES = {"backbone.embed": 16, "backbone.word": 8, "backbone.similarity": 8}
SETTINGS = {"triplet.batch_size": 16, "l2rm.batch_size": 16, "l2rm.queue": 16}
GRID = Grid(
    datasets=["f30k"],
    protocols=["shuffle-images"],
    ratios=[0.2],
    methods=["triplet", "l2rm"],
    backbones=["vse"],
    budgets=[0.3],
    seeds=[0],
    evaluations=2,
    overrides=[Override(*key.split("."), str(value)) for key, value in (SIZES | SETTINGS).items()],
    data_root=Path(__file__).parent / "fixtures" / "f30k",
)
TRIPLET = replace(GRID, methods=["triplet"], overrides=[o for o in GRID.overrides if o.target != "l2rm"])
SAME = ("spec.json", "result.json", "model.safetensors", "ranks.npz")


class Watcher:
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def started(self, index: int) -> None:
        self.events.append(("started", index))

    def progressed(self, index: int, progress: Progress) -> None:
        self.events.append(("progressed", index))

    def ended(self, index: int, outcome: Outcome) -> None:
        self.events.append(("ended", index, outcome.status))


def start(grid: Grid, root: Path, jobs: int, watcher: Watcher | None = None) -> list[Outcome]:
    return list(launch.launch(grid, plan_sweep(grid), Store(root), CPU, watcher or Watcher(), jobs))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: pytest.fail("processes were started"))


def no_one_is_left() -> bool:
    """Return whether all children of this process end, soon."""
    for child in multiprocessing.active_children():
        child.join(10)
    return not multiprocessing.active_children()


def test_two_processes_leave_the_records_of_one(tmp_path: Path) -> None:
    grid = replace(GRID, seeds=[0, 1])
    runs = plan_sweep(grid)
    alone = list(run_sweep(runs, Store(tmp_path / "one"), CPU, Watcher()))
    (kept,) = run_sweep(runs[1:2], Store(tmp_path / "two"), CPU, Watcher())
    watcher = Watcher()
    outcomes = start(grid, tmp_path / "two", 2, watcher)

    assert [outcome.status for outcome in alone] == ["done"] * 4
    by_id = {outcome.spec.id: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_id) == 4
    for index, one in enumerate(alone):
        two = by_id[one.spec.id]
        assert two.spec == one.spec
        assert two.status == ("kept" if one.spec == kept.spec else "done")
        assert (two.result, two.error) == (one.result, None)
        assert two.folder.relative_to(tmp_path / "two") == one.folder.relative_to(tmp_path / "one")
        for name in SAME:
            assert (two.folder / name).read_bytes() == (one.folder / name).read_bytes(), name
        assert {path.name for path in two.folder.iterdir()} == {path.name for path in one.folder.iterdir()}
        mine = list(dict.fromkeys(event for event in watcher.events if event[1] == index))
        told = [("started", index), ("progressed", index), ("ended", index, two.status)]
        assert mine == ([told[0], told[2]] if two.status == "kept" else told)
    for path in (tmp_path / "one" / "f30k" / "noise").iterdir():
        assert (tmp_path / "two" / "f30k" / "noise" / path.name).read_bytes() == path.read_bytes()
    assert not [path for path in (tmp_path / "two").rglob("*") if "tmp" in path.name]
    assert no_one_is_left()


class Killer:
    """Events of a sweep on their way to the parent; kills the process at work on `victim`."""

    def __init__(self, events: Any, victim: int) -> None:
        self.events, self.victim = events, victim

    def get(self, timeout: float) -> Any:
        event = self.events.get(timeout=timeout)
        worker, kind, index, _ = event
        if (kind, index) == ("progressed", self.victim):
            time.sleep(0.05)  # until it is out of the queue, where it would take a lock with it
            os.kill(worker, signal.SIGKILL)
        return event


def test_a_killed_process_fails_its_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = launch._collect

    def spy(runs: Any, store: Any, observer: Any, workers: Any, events: Any) -> Iterator[Outcome]:
        return collect(runs, store, observer, workers, Killer(events, 0))

    monkeypatch.setattr(launch, "_collect", spy)
    grid, watcher = replace(TRIPLET, budgets=[1e6, 0.3, 0.4]), Watcher()  # the first would take days
    outcomes = start(grid, tmp_path, 2, watcher)
    by_budget = {outcome.spec.budget: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_budget) == 3
    failed = by_budget[1e6]
    assert (failed.status, failed.result) == ("failed", None)
    assert repr(failed.error) == "RuntimeError('its process died; the system may have run out of memory')"
    assert failed.folder == Store(tmp_path).folder(failed.spec)
    assert [by_budget[budget].status for budget in (0.3, 0.4)] == ["done", "done"]
    assert watcher.events.count(("ended", 0, "failed")) == 1
    assert no_one_is_left()


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_kept_runs_start_no_process(jobs: int, tmp_path: Path, no_processes: None) -> None:
    grid = replace(TRIPLET, seeds=[0, 1])
    done = start(replace(grid, seeds=[0]), tmp_path, 4)  # one run needs no other process either
    both = start(grid, tmp_path, 1)
    kept = start(grid, tmp_path, jobs)
    assert [outcome.status for outcome in done] == ["done"]
    assert [outcome.status for outcome in both] == ["kept", "done"]
    assert [outcome.status for outcome in kept] == ["kept", "kept"]
    assert [outcome.result for outcome in kept] == [outcome.result for outcome in both]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_damaged_record_is_told_before_anything_starts(jobs: int, tmp_path: Path, no_processes: None) -> None:
    grid = replace(TRIPLET, seeds=[0, 1, 2])
    path = Store(tmp_path).folder(plan_sweep(grid)[2].spec) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(UserError, match=r"result\.json: cannot be read as a run record"):
        start(grid, tmp_path, jobs)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


# What the parent makes of events, without processes.


@dataclass
class FakeProcess:
    pid: int
    alive: bool = True

    def is_alive(self) -> bool:
        return self.alive


@pytest.fixture(scope="module")
def planned() -> list[PlannedRun]:
    return plan_sweep(replace(TRIPLET, seeds=[0, 1, 2]))


def collect(
    planned: list[PlannedRun], root: Path, workers: list[FakeProcess], events: list[tuple[object, ...]]
) -> tuple[list[Outcome], Watcher]:
    given: queue.Queue[tuple[object, ...]] = queue.Queue()
    for event in events:
        given.put(event)
    watcher = Watcher()
    return list(launch._collect(planned, Store(root), watcher, workers, given)), watcher  # type: ignore[arg-type]


def done(run: PlannedRun) -> Outcome:
    return Outcome(run.spec, "done", Path(), {})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.01)


def test_outcomes_come_as_they_come(planned: list[PlannedRun], tmp_path: Path) -> None:
    progress = Progress(0.5, None, None, "training")
    events = [
        (7, "started", 0, None),
        (8, "started", 1, None),
        (8, "progressed", 1, progress),
        (8, "ended", 1, done(planned[1])),
        (8, "started", 2, None),
        (7, "ended", 0, done(planned[0])),
        (8, "ended", 2, done(planned[2])),
    ]
    outcomes, watcher = collect(planned, tmp_path, [FakeProcess(7), FakeProcess(8)], events)
    assert [outcome.spec.seed for outcome in outcomes] == [1, 0, 2]
    expected = [(kind, index, "done") if kind == "ended" else (kind, index) for _, kind, index, _ in events]
    assert watcher.events == expected


def test_runs_that_no_process_is_left_for(planned: list[PlannedRun], tmp_path: Path, impatient: None) -> None:
    workers = [FakeProcess(7, alive=False), FakeProcess(8, alive=False)]
    events = [(7, "started", 0, None), (7, "ended", 0, done(planned[0])), (7, "started", 1, None)]
    outcomes, watcher = collect(planned, tmp_path, workers, events)
    assert [(o.spec.seed, o.status) for o in outcomes] == [(0, "done"), (1, "failed"), (2, "failed")]
    assert {repr(o.error) for o in outcomes[1:]} == {
        "RuntimeError('its process died; the system may have run out of memory')"
    }
    assert watcher.events[-2:] == [("ended", 1, "failed"), ("ended", 2, "failed")]


def test_a_process_that_ended_by_itself_lost_nothing(planned: list[PlannedRun], tmp_path: Path) -> None:
    events: queue.Queue[tuple[object, ...]] = queue.Queue()

    class Events:
        def __init__(self) -> None:
            self.waited = 0

        def get(self, timeout: float) -> tuple[object, ...]:
            if events.empty():
                self.waited += 1
                events.put((8, "ended", 2, done(planned[2])))
                raise queue.Empty
            return events.get()

    for event in [
        (7, "started", 0, None),
        (8, "started", 2, None),
        (7, "ended", 0, done(planned[0])),
        (7, "started", 1, None),
        (7, "ended", 1, done(planned[1])),
    ]:
        events.put(event)
    given, workers = Events(), [FakeProcess(7, alive=False), FakeProcess(8)]
    outcomes = list(launch._collect(planned, Store(tmp_path), Watcher(), workers, given))  # type: ignore[arg-type]
    assert given.waited == 1
    assert [(outcome.spec.seed, outcome.status) for outcome in outcomes] == [(0, "done"), (1, "done"), (2, "done")]


def test_what_a_process_refuses_is_the_users_error(planned: list[PlannedRun], tmp_path: Path) -> None:
    events = [(7, "started", 0, None), (7, "refused", 0, "result.json: cannot be read.")]
    with pytest.raises(UserError, match=r"^result\.json: cannot be read\.$"):
        collect(planned, tmp_path, [FakeProcess(7)], events)


def test_errors_travel_or_are_told_in_words(planned: list[PlannedRun], tmp_path: Path) -> None:
    class Local(Exception):  # noqa: N818
        pass

    travels = Outcome(planned[0].spec, "failed", tmp_path, error=UserError("x"))
    assert launch._sendable(travels) is travels
    told = launch._sendable(Outcome(planned[0].spec, "failed", tmp_path, error=Local("y")))
    assert repr(told.error) == "RuntimeError(\"Local('y')\")"
    assert (told.spec, told.status, told.folder) == (planned[0].spec, "failed", tmp_path)


def test_progress_is_sent_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(launch.time, "monotonic", lambda: now[0])
    events: queue.Queue[tuple[object, ...]] = queue.Queue()
    report, progress = launch._Reporter(7, 3, events), Progress(0.5, None, None, "training")
    for _ in range(101):
        report(progress)
        now[0] += 0.01
    sent = [events.get_nowait() for _ in range(events.qsize())]
    assert set(sent) == {(7, "progressed", 3, progress)}
    assert 4 <= len(sent) <= 1 / launch.PROGRESS_SECONDS + 1


@pytest.mark.parametrize(
    ("cores", "runs", "expected"),
    [(6, 3, 3), (3, 3, 3), (2, 2, 2), (2, 3, 3), (2, 5, 3), (4, 12, 4), (4, 13, 5), (1, 3, 1), (None, 3, 1)],
)
def test_small_networks_use_every_core(
    cores: int | None, runs: int, expected: int, planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_jobs(planned[:1] * runs, CPU) == expected


def test_other_runs_come_one_after_another(planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert default_jobs(planned, torch.device("cuda")) == 1
    large = plan_sweep(replace(TRIPLET, overrides=[], backbones=["sgr"]))  # as published
    assert default_jobs(large, CPU) == 1
    assert default_jobs([*planned, *large], CPU) == 1
    monkeypatch.setattr(runner, "SMALL_STEP", 0)
    assert default_jobs(planned, CPU) == 1


@pytest.mark.parametrize("threads", ["1", "4"])
def test_threads_that_the_user_set_mean_one_job(
    threads: str, planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert default_jobs(planned, CPU) == 1
