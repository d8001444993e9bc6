"""Sweeps as Slurm jobs, with fake Slurm commands; tests/slurm uses a real Slurm."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sources import Source
from toy_methods import Toy
from watching import Ends

from ncbench import UserError
from ncbench.budget import Budget
from ncbench.data.dataset import Dataset
from ncbench.records.store import Store
from ncbench.runtime.signals import catch_signals, request_stop, stop_signal
from ncbench.sweeps.execution import execute
from ncbench.sweeps.grid import Grid, PlannedRun, plan_sweep
from ncbench.sweeps.launchers import make_launcher, slurm, slurm_job
from ncbench.sweeps.launchers.base import Sweep
from ncbench.sweeps.launchers.slurm import cancel_jobs, jobs_of, query_states
from ncbench.sweeps.launchers.slurm_job import RunJob
from ncbench.sweeps.record import SweepRecord
from ncbench.training.run import DEFAULT_CADENCE

pytest.importorskip("submitit")

GRID = Grid(["tiny"], ["shuffle-captions"], [0.4], ["toy"], ["vse"], [Budget(0.3)], [0, 1, 2])


@dataclass
class Pretended:
    """Fake Slurm commands: `states` are the output of squeue, `answers` of other commands; `calls` records calls."""

    folder: Path
    calls: Path = field(init=False)

    def __post_init__(self) -> None:
        self.calls = self.folder / "calls"
        self.calls.touch()
        script = (
            f'#!/bin/sh\nname=$(basename "$0")\necho "$name $*" >> {self.calls}\n'
            f'[ $name = sbatch ] && cat "$1" >> {self.folder}/submitted\n'
            f'cat "{self.folder}/$name.err" >&2 2>/dev/null\n'
            f'cat "{self.folder}/$name.out" 2>/dev/null || exit 1\n'
        )
        for name in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
            path = self.folder / name
            path.write_text(script)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.answer("sbatch", "Submitted batch job 7\n")
        self.answer("scontrol", "MaxArraySize            = 1001\n")
        self.answer("scancel", "")
        self.squeue({})

    def answer(self, name: str, text: str | None, error: str = "") -> None:
        """Let a command print `text`, or fail if it is None."""
        path = self.folder / f"{name}.out"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        (self.folder / f"{name}.err").write_text(error)

    def squeue(self, found: dict[str, str]) -> None:
        """Set the states of jobs that squeue prints."""
        self.answer("squeue", "".join(f"{job}|{state}\n" for job, state in found.items()))

    def called(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(f"{name} ")]


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(slurm, "SQUEUE_SECONDS", 0.05)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.1)
    return Pretended(folder)


@pytest.fixture
def sweep(tiny: Dataset, register: Any, tmp_path: Path) -> Sweep:
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.methods", "toy", Toy)
    runs = plan_sweep(GRID)
    root = tmp_path / "runs"
    return Sweep(GRID, runs, Store(root), SweepRecord(root, "abc"), "cpu")


def finish(sweep: Sweep, index: int) -> None:
    """Execute a run as its job would."""
    assert execute(sweep.runs[index], sweep.store, torch.device("cpu"), lambda progress: None).status == "done"


def test_jobs_are_an_array_in_the_order_of_the_plan(pretended: Pretended, sweep: Sweep) -> None:
    finish(sweep, 1)
    pretended.squeue({"7_0": "PENDING", "7_1": "RUNNING"})
    watcher = Ends()
    outcomes = make_launcher("slurm", {"partition": "gpu", "time": "2h"}).launch(replace(sweep, jobs=2), watcher)
    assert next(outcomes).status == "kept"
    assert jobs_of(sweep.record) == {sweep.runs[0].spec.id: "7_0", sweep.runs[2].spec.id: "7_1"}
    (script,) = (sweep.record.folder / "slurm").glob("*_submission.sh")
    text = script.read_text()
    for line in ("--array=0-1%2", "--partition=gpu", "--time=120", "--requeue", "--signal=USR2@90"):
        assert f"#SBATCH {line}" in text
    finish(sweep, 0)
    finish(sweep, 2)
    assert {o.spec.seed for o in outcomes} == {0, 2}
    assert (watcher.ends[0], watcher.ends[-1]) == ((1, "kept"), (0, "done"))


def test_a_sweep_that_is_done_asks_slurm_nothing(pretended: Pretended, sweep: Sweep) -> None:
    for index in range(3):
        finish(sweep, index)
    assert [o.status for o in make_launcher("slurm").launch(sweep, Ends())] == ["kept"] * 3
    assert pretended.calls.read_text() == ""


def test_large_sweeps_are_arrays_one_after_another(pretended: Pretended, sweep: Sweep) -> None:
    pretended.answer("scontrol", "Junk\nMaxArraySize            = 3\n")
    with catch_signals():
        request_stop(signal.SIGINT)  # takes effect after all jobs are submitted
        assert list(make_launcher("slurm").launch(replace(sweep, jobs=1), Ends())) == []
    assert len(pretended.called("sbatch")) == 2
    submitted = (pretended.folder / "submitted").read_text()
    assert submitted.count("--job-name=ncbench") == 2
    assert submitted.count("--dependency=afterany:7") == 1


def test_the_same_command_submits_what_has_no_job(pretended: Pretended, sweep: Sweep) -> None:
    ids = [run.spec.id for run in sweep.runs]
    sweep.record.folder.mkdir(parents=True)
    (sweep.record.folder / "jobs.json").write_text(json.dumps(dict(zip(ids, ("5_0", "5_1", "5_2"), strict=True))))
    pretended.squeue({"5_0": "RUNNING", "5_1": "TIMEOUT"})
    sweep.store.note(sweep.runs[1].spec, "failed", "no luck")
    with catch_signals():
        request_stop(signal.SIGINT)
        assert list(make_launcher("slurm").launch(sweep, Ends())) == []
    assert jobs_of(sweep.record) == dict(zip(ids, ("5_0", "7_0", "7_1"), strict=True))
    assert sweep.store.noted_outcome(sweep.runs[1].spec) == ("interrupted", "")  # the old failure is removed


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("TIMEOUT", "failed", "Slurm job 7_0 ended with state TIMEOUT; see "),
        ("OUT_OF_MEMORY", "over-memory", "Slurm job 7_0 ended with state OUT_OF_MEMORY; see "),
        (None, "failed", "Slurm job 7_0 is no longer known to Slurm; see "),
        ("CANCELLED", "interrupted", ""),
    ],
)
def test_jobs_that_leave_no_word(
    state: str | None, status: str, words: str, pretended: Pretended, sweep: Sweep
) -> None:
    pretended.squeue({"7_1": "RUNNING", "7_2": "RUNNING"} | ({} if state is None else {"7_0": state}))
    outcome = next(iter(make_launcher("slurm").launch(sweep, Ends())))
    assert (outcome.spec, outcome.status) == (sweep.runs[0].spec, status)
    if words:
        assert words in str(outcome.error)
        assert str(outcome.error).endswith(f"{sweep.record.folder.resolve()}/slurm/7_0_0_log.err")
        assert (outcome.folder / "error.txt").read_text() == f"{outcome.error}\n"


def test_a_job_that_saved_and_ended_is_interrupted(pretended: Pretended, sweep: Sweep) -> None:
    pretended.squeue({"7_0": "COMPLETED", "7_1": "RUNNING", "7_2": "RUNNING"})
    outcomes = make_launcher("slurm").launch(sweep, Ends())
    sweep.store.note(sweep.runs[0].spec, "interrupted")
    assert next(iter(outcomes)).status == "interrupted"


def test_a_slurm_that_does_not_answer_ends_nothing(pretended: Pretended, sweep: Sweep) -> None:
    pretended.answer("squeue", None)
    assert query_states(["1"]) is None
    outcomes = iter(make_launcher("slurm").launch(sweep, Ends()))
    finish(sweep, 0)
    assert next(outcomes).status in ("kept", "done")
    with catch_signals():
        request_stop(signal.SIGTERM)
        assert list(outcomes) == []


def test_what_slurm_refuses_is_the_users_error(pretended: Pretended, sweep: Sweep) -> None:
    pretended.answer("sbatch", None, "sbatch: error: invalid partition specified: nosuch\n")
    with pytest.raises(UserError, match=r"^Slurm rejected the jobs: .*nosuch.*"):
        list(make_launcher("slurm", {"partition": "nosuch"}).launch(sweep, Ends()))
    pretended.answer("scontrol", None, "scontrol: error: no controller\n")
    with pytest.raises(UserError, match=r"^Slurm cannot show its configuration: scontrol: error: no controller$"):
        list(make_launcher("slurm").launch(sweep, Ends()))


def test_no_slurm_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^--launcher slurm: sbatch is not available"):
        make_launcher("slurm").check("cuda")


def test_no_submitit_here(pretended: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    make_launcher("slurm").check("cuda")
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(
        UserError, match=r"^--launcher slurm requires submitit. Install it with: pip install 'ncbench\[slu"
    ):
        make_launcher("slurm").check("cuda")


def test_options_of_slurm_are_for_slurm() -> None:
    with pytest.raises(UserError, match=r"^--slurm requires --launcher slurm, found --launcher here"):
        make_launcher("here", {"time": "2h"})
    with pytest.raises(UserError, match=r"^unknown launcher 'slum'\. Did you mean 'slurm'\?"):
        make_launcher("slum")


def test_jobs_are_cancelled(pretended: Pretended, sweep: Sweep) -> None:
    assert cancel_jobs(sweep.record) == 0
    sweep.record.folder.mkdir(parents=True)
    (sweep.record.folder / "jobs.json").write_text('{"a": "5_0", "b": "5_1", "c": "5_2"}')
    pretended.squeue({"5_0": "RUNNING", "5_1": "COMPLETED", "5_2": "PENDING", "6": "RUNNING"})
    assert cancel_jobs(sweep.record) == 2
    assert pretended.called("scancel") == ["scancel 5_0 5_2"]
    pretended.answer("squeue", None)
    with pytest.raises(UserError, match=r"^squeue failed, and this sweep may have running jobs"):
        cancel_jobs(sweep.record)
    # Jobs that may exist are not submitted again.
    ids = [run.spec.id for run in sweep.runs]
    (sweep.record.folder / "jobs.json").write_text(json.dumps({ids[0]: "5_0"}))
    with pytest.raises(UserError, match=r"^squeue failed, and this sweep may have running jobs"):
        list(make_launcher("slurm").launch(sweep, Ends()))
    assert pretended.called("sbatch") == []


def test_jobs_of_another_machine_are_not_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SweepRecord(tmp_path, "a")
    record.folder.mkdir(parents=True)
    (record.folder / "jobs.json").write_text('{"a": "5_0"}')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^the sweep has Slurm jobs, but scancel is not available on this machine"):
        cancel_jobs(record)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_jobs_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    record = SweepRecord(tmp_path, "a")
    record.folder.mkdir(parents=True)
    (record.folder / "jobs.json").write_text(content)
    with pytest.raises(UserError, match=r"jobs\.json: cannot be read as a list of Slurm jobs"):
        jobs_of(record)


# What a job does, in this process.


@pytest.fixture
def job(sweep: Sweep) -> RunJob:
    run: PlannedRun = sweep.runs[0]
    assert run.cell is not None
    return RunJob(run.cell, run.spec, sweep.record, "", "cpu", DEFAULT_CADENCE, None)


@pytest.fixture
def handler() -> Iterator[list[int]]:
    """Replace the signal handler of submitit; yield the list of signals that it receives."""
    got: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: got.append(number))
    yield got
    signal.signal(signal.SIGUSR2, before)


def test_a_job_leaves_the_record_of_its_run(job: RunJob, sweep: Sweep, handler: list[int], capfd: Any) -> None:
    assert job() == "done"
    assert capfd.readouterr().out == f"{job.spec.id}: done\n"
    assert job() == "kept"
    found = (sweep.store.folder(job.spec) / "result.json").read_bytes()
    other = replace(sweep, store=Store(sweep.store.root.parent / "other"))
    finish(other, 0)
    assert (other.store.folder(job.spec) / "result.json").read_bytes() == found
    assert handler == []


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR2, [signal.SIGUSR2]), (signal.SIGTERM, [])])
def test_a_job_that_is_told_to_end_saves_first(
    number: signal.Signals, again: list[int], job: RunJob, sweep: Sweep, handler: list[int], monkeypatch: Any
) -> None:
    monkeypatch.setattr(Toy, "train_epoch", interrupted_by(number))
    assert job() == "interrupted"
    assert handler == again  # submitit requeues the job in this handler; after SIGTERM, Slurm requeues it
    assert json.loads((sweep.store.folder(job.spec) / "status.json").read_text())["status"] == "interrupted"
    assert not list(sweep.store.root.rglob("claim.json"))


def test_a_job_whose_run_fails_is_not_queued_again(
    job: RunJob, handler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Toy, epoch: int) -> Iterator[dict[str, float]]:
        os.kill(os.getpid(), signal.SIGUSR2)
        raise ZeroDivisionError
        yield {}

    monkeypatch.setattr(Toy, "train_epoch", fail)
    assert job() == "failed"
    assert handler == []


def interrupted_by(number: signal.Signals) -> Any:
    train = Toy.train_epoch

    def train_epoch(self: Toy, epoch: int) -> Iterator[dict[str, float]]:
        for scalars in train(self, epoch):
            os.kill(os.getpid(), number)
            yield scalars

    return train_epoch


def test_a_job_that_is_cancelled_before_it_begins(job: RunJob, handler: list[int], monkeypatch: Any) -> None:
    monkeypatch.setattr("ncbench.sweeps.record.STOP_POLL_SECONDS", 0.01)
    job.record.request_stop()

    def wait_for_it() -> None:
        while stop_signal() is None:
            pass

    monkeypatch.setattr(slurm_job, "_limit_threads", wait_for_it)
    assert job() == "waiting"
    assert handler == []


def test_a_job_whose_run_has_changed_says_so(job: RunJob, sweep: Sweep, handler: list[int]) -> None:
    changed = replace(job, cell=replace(job.cell, seeds=[9]))
    with pytest.raises(UserError, match=r"its method, backbone or dataset changed after it was submitted"):
        changed()
    status, words = sweep.store.noted_outcome(job.spec)
    assert status == "failed"
    assert "changed after it was submitted" in words


def test_allocations_without_progress_come_to_an_end(job: RunJob, sweep: Sweep) -> None:
    folder = sweep.store.folder(job.spec) / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "00000004.json").touch()
    again = job.checkpoint()
    assert (again.function is job, job.stalled) == (True, 0)
    for number in (1, 2):
        assert job.checkpoint() is not None
        assert job.stalled == number
    (folder / "00000005.json").touch()
    assert job.checkpoint() is not None
    assert [job.checkpoint() is None for _ in range(3)] == [False, False, True]
    status, words = sweep.store.noted_outcome(job.spec)
    assert (status, words) == ("failed", "no new checkpoint in 3 allocations; request more time with --slurm time=...")


@pytest.mark.parametrize(("given", "user", "expected"), [("3", None, 3), ("3", "1", None), ("", None, None)])
def test_threads_are_those_that_slurm_gave(
    given: str, user: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", seen.append)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", user)
    slurm_job._limit_threads()
    assert seen == ([] if expected is None else [expected])
