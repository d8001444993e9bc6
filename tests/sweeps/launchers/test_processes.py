"""Runs in several processes: identical records, and sweeps that end even if processes die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from places import FIXTURES
from watching import Events

from ncbench import UserError
from ncbench.budget import Budget
from ncbench.method.settings import Override
from ncbench.records.progress import Progress
from ncbench.records.store import Store
from ncbench.runtime.forks import CAN_FORK
from ncbench.runtime.signals import catch_signals, stop_signal
from ncbench.sweeps import fresh_process
from ncbench.sweeps.execution import Outcome, run_sweep
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep
from ncbench.sweeps.launchers import make_launcher
from ncbench.sweeps.launchers import processes as launch
from ncbench.sweeps.launchers.base import Sweep
from ncbench.sweeps.launchers.processes import default_jobs
from ncbench.sweeps.record import SweepRecord
from ncbench.training import cost

CPU = torch.device("cpu")
SIZES = {"backbone.embed": 16, "backbone.word": 8, "backbone.similarity": 8}
SETTINGS = {"triplet.batch_size": 16, "l2rm.batch_size": 16, "l2rm.queue": 16}
GRID = Grid(
    datasets=["f30k"],
    protocols=["shuffle-images"],
    ratios=[0.2],
    methods=["triplet", "l2rm"],
    backbones=["vse"],
    budgets=[Budget(0.3)],
    seeds=[0],
    evaluations=2,
    overrides=[Override(*key.split("."), str(value)) for key, value in (SIZES | SETTINGS).items()],
    data_root=FIXTURES / "f30k",
)
TRIPLET = replace(GRID, methods=["triplet"], overrides=[o for o in GRID.overrides if o.target != "l2rm"])
SAME = ("spec.json", "result.json", "model.safetensors", "ranks.npz")


def start(grid: Grid, root: Path, jobs: int, watcher: Events | None = None, name: str = "processes") -> list[Outcome]:
    sweep = Sweep(grid, plan_sweep(grid), Store(root), SweepRecord(root, "0"), "cpu", jobs)
    return list(make_launcher(name).launch(sweep, watcher or Events()))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: pytest.fail("processes were started"))


def no_one_is_left() -> bool:
    """Return whether all children of this process end, soon."""
    for child in multiprocessing.active_children():
        child.join(10)
    return not multiprocessing.active_children()


def test_two_processes_leave_the_records_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    grid = replace(GRID, seeds=[0, 1])
    runs = plan_sweep(grid)
    alone = list(run_sweep(runs, Store(tmp_path / "one"), CPU, Events()))
    (kept,) = run_sweep(runs[1:2], Store(tmp_path / "two"), CPU, Events())
    watcher = Events()
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
    assert capfd.readouterr().err == ""  # including the processes


@pytest.mark.skipif(not CAN_FORK, reason="forks are for Linux")
def test_forked_workers_do_not_plan_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "plan_sweep", lambda grid: [])  # which forks inherit
    outcomes = start(replace(TRIPLET, seeds=[0, 1]), tmp_path, 2)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]


def test_where_forks_are_not_safe_workers_are_new_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_can_fork", lambda: False)
    monkeypatch.setattr(launch, "_forked_plan", None)
    outcomes = start(replace(TRIPLET, seeds=[0, 1]), tmp_path, 2)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]


class Killer(Events):
    """Kills the process that executes the first run: the first process."""

    def progressed(self, index: int, progress: Progress) -> None:
        super().progressed(index, progress)
        if index == 0:
            victim = min(multiprocessing.active_children(), key=lambda child: child.pid or 0)
            os.kill(victim.pid or 0, signal.SIGKILL)


def test_a_killed_process_fails_its_run_only(tmp_path: Path) -> None:
    grid, watcher = (
        replace(TRIPLET, budgets=[Budget(1e6), Budget(0.3), Budget(0.4)]),
        Killer(),
    )  # the first would take days
    outcomes = start(grid, tmp_path, 2, watcher)
    by_budget = {outcome.spec.budget.amount: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_budget) == 3
    failed = by_budget[1e6]
    assert (failed.status, failed.result) == ("failed", None)
    assert repr(failed.error) == f"RuntimeError({fresh_process.DIED!r})"
    assert failed.folder == Store(tmp_path).folder(failed.spec)
    assert (failed.folder / "error.txt").read_text() == fresh_process.DIED + "\n"
    assert [by_budget[budget].status for budget in (0.3, 0.4)] == ["done", "done"]
    assert watcher.events.count(("ended", 0, "failed")) == 1
    assert no_one_is_left()


def test_an_output_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "f30k").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match="f30k"):
        start(replace(TRIPLET, seeds=[0, 1]), tmp_path, 2)
    assert no_one_is_left()


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_kept_runs_start_no_process(jobs: int, tmp_path: Path, no_processes: None) -> None:
    grid = replace(TRIPLET, seeds=[0, 1])
    done = start(replace(grid, seeds=[0]), tmp_path, 4)  # one run needs no other process
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


@pytest.fixture(scope="module")
def planned() -> list[PlannedRun]:
    return plan_sweep(replace(TRIPLET, seeds=[0, 1, 2]))


def collect(planned: list[PlannedRun], root: Path, *workers: list[tuple[str, object]]) -> tuple[list[Outcome], Events]:
    """Let fake workers send the given messages and die."""
    watcher, waiting = Events(), list(range(len(planned)))
    at_work, theirs = {}, []
    for said in workers:
        ours, other = multiprocessing.Pipe()
        for event in said:
            other.send(event)
        at_work[ours] = launch._dispatch(ours, waiting, watcher)
        theirs.append(other)
    for other in theirs:
        other.close()
    return list(launch._collect(planned, Store(root), watcher, waiting, at_work)), watcher


def done(run: PlannedRun) -> tuple[str, Outcome]:
    return "ended", Outcome(run.spec, "done", Path(), {})


def test_outcomes_come_as_they_come(planned: list[PlannedRun], tmp_path: Path) -> None:
    progress = Progress(0.5, None, None, "training")
    outcomes, watcher = collect(
        planned, tmp_path, [done(planned[0])], [("progressed", progress), done(planned[1])], [done(planned[2])]
    )
    assert {(outcome.spec.seed, outcome.status) for outcome in outcomes} == {(0, "done"), (1, "done"), (2, "done")}
    assert watcher.events[:3] == [("started", 0), ("started", 1), ("started", 2)]
    assert ("progressed", 1) in watcher.events
    assert {event for event in watcher.events if event[0] == "ended"} == {("ended", n, "done") for n in range(3)}


def test_runs_that_no_process_is_left_for(planned: list[PlannedRun], tmp_path: Path) -> None:
    outcomes, watcher = collect(planned, tmp_path, [], [])
    assert [(o.spec.seed, o.status) for o in outcomes] == [(0, "failed"), (1, "failed"), (2, "failed")]
    assert {repr(o.error) for o in outcomes} == {f"RuntimeError({fresh_process.DIED!r})"}
    assert watcher.events[-1:] == [("ended", 2, "failed")]


def test_what_a_process_refuses_is_the_users_error(planned: list[PlannedRun], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^result\.json: cannot be read\.$"):
        collect(planned, tmp_path, [("refused", "result.json: cannot be read.")])


def test_errors_are_pickled_or_become_their_repr(planned: list[PlannedRun], tmp_path: Path) -> None:
    class Local(Exception):  # noqa: N818
        pass

    travels = Outcome(planned[0].spec, "failed", tmp_path, error=UserError("x"))
    assert fresh_process.picklable(travels) is travels
    told = fresh_process.picklable(Outcome(planned[0].spec, "failed", tmp_path, error=Local("y")))
    assert repr(told.error) == "RuntimeError(\"Local('y')\")"
    assert (told.spec, told.status, told.folder) == (planned[0].spec, "failed", tmp_path)


def test_an_error_that_cannot_be_unpickled_becomes_its_repr(planned: list[PlannedRun], tmp_path: Path) -> None:
    told = fresh_process.picklable(Outcome(planned[0].spec, "failed", tmp_path, error=Picky("a", "b")))
    assert repr(told.error) == "RuntimeError(\"Picky('a and b')\")"


class Picky(Exception):  # noqa: N818
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def test_progress_is_sent_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    # Patch only this module's clock: pipes use the clock too.
    monkeypatch.setattr(fresh_process, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ours, theirs = multiprocessing.Pipe()
    report, progress = fresh_process.Reporter(theirs), Progress(0.5, None, None, "training")
    for _ in range(101):
        report(progress)
        now[0] += 0.01
    sent = []
    while ours.poll():
        sent.append(ours.recv())
    assert sent == [("progressed", progress)] * len(sent)
    assert 4 <= len(sent) <= 1 / fresh_process.PROGRESS_SECONDS + 1


@pytest.mark.parametrize(
    ("cores", "runs", "expected"),
    [(6, 3, 3), (3, 3, 3), (2, 2, 2), (2, 3, 3), (2, 5, 3), (4, 12, 6), (4, 13, 5), (1, 3, 1), (16, 31, 16), (2, 0, 1)],
)
def test_small_networks_use_every_core(
    cores: int, runs: int, expected: int, planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_jobs(planned[:1] * runs, CPU) == expected


def test_other_runs_come_one_after_another(planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert default_jobs(planned, torch.device("cuda")) == 1
    large = plan_sweep(replace(TRIPLET, overrides=[], backbones=["sgr"]))  # as published
    assert default_jobs(large, CPU) == 1
    assert default_jobs([*planned, *large], CPU) == 1
    monkeypatch.setattr(cost, "MIN_STEP_FOR_THREADS", 0)
    assert default_jobs(planned, CPU) == 1


@pytest.mark.parametrize("threads", ["1", "4"])
def test_threads_that_the_user_set_mean_one_job(
    threads: str, planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert default_jobs(planned, CPU) == 1


def test_a_worker_whose_parent_has_gone_saves_and_stops() -> None:
    ours, theirs = multiprocessing.Pipe()
    report = fresh_process.Reporter(theirs)
    with catch_signals():
        ours.close()
        report(Progress(0.5, None, None, "training"))
        assert stop_signal() == signal.SIGTERM
    with catch_signals():
        fresh_process.send(theirs, ("ended", None))
        assert stop_signal() == signal.SIGTERM


@pytest.mark.parametrize(
    ("devices", "jobs", "expected"),
    [
        (2, 2, ["cuda:0", "cuda:1"]),
        (2, 3, ["cuda:0", "cuda:1", "cuda:0"]),
        (4, 1, ["cuda:0"]),
    ],
)
def test_processes_take_cuda_devices_in_turn(
    devices: int, jobs: int, expected: list[str], planned: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert default_jobs(planned, torch.device("cuda")) == devices
    assert launch.divide_machine(torch.device("cuda"), jobs) == [
        launch.WorkerResources(name, None) for name in expected
    ]


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 2, 4), (8, 3, 2), (2, 3, 1)])
def test_processes_divide_the_threads_of_a_cpu(
    cores: int, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch.divide_machine(CPU, jobs) == [launch.WorkerResources("cpu", threads)] * jobs
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert launch.divide_machine(CPU, jobs) == [launch.WorkerResources("cpu", None)] * jobs


def test_one_process_executes_what_several_do(tmp_path: Path) -> None:
    (here,) = start(TRIPLET, tmp_path / "a", 1, name="here")
    (pooled,) = start(TRIPLET, tmp_path / "b", 1)
    assert (here.result, here.status) == (pooled.result, "done")
    with pytest.raises(UserError, match=r"^--launcher here executes one run at a time, found --jobs 2"):
        start(TRIPLET, tmp_path / "c", 2, name="here")
    assert not (tmp_path / "c").exists()
