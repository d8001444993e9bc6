"""A process of its own for every run: nothing survives, and whatever happens in it becomes an outcome."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from runs import prepare_run
from toy_methods import Toy

from ncbench import Method, UserError
from ncbench.data.dataset import Dataset, IntVector
from ncbench.records.progress import Progress
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.runtime import environment, signals
from ncbench.runtime.forks import Fork
from ncbench.runtime.signals import catch_signals, request_stop, stop_signal
from ncbench.sweeps import fresh_process
from ncbench.sweeps.execution import Outcome, run_sweep
from ncbench.sweeps.fresh_process import DIED, execute_apart
from ncbench.sweeps.grid import PlannedRun
from ncbench.sweeps.launchers.slurm_job import NullObserver

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


def execute(kind: type[Method], dataset: Dataset, root: Path, seed: int = 0, **changes: Any) -> Outcome:
    run = prepare_run(dataset, root, kind, seed=seed, **changes)
    return execute_apart(PlannedRun(run.spec, dataset, run.noise, kind), Store(root), CPU, lambda _: None)


class Remembering(Toy):
    """Keeps count of its runs at its class and in a module."""

    def setup(self, task: Any) -> None:
        super().setup(task)
        type(self).runs = getattr(self, "runs", 0) + 1  # type: ignore[attr-defined]
        signals.runs = getattr(signals, "runs", 0) + 1  # type: ignore[attr-defined]
        if (self.runs, signals.runs) != (1, 1):  # type: ignore[attr-defined]
            raise RuntimeError("remembers")


def test_nothing_survives(tiny: Dataset, tmp_path: Path) -> None:
    outcomes = [execute(Remembering, tiny, tmp_path, seed, budget=0.5) for seed in (0, 1)]
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [("done", None)] * 2
    assert not hasattr(Remembering, "runs")
    assert not hasattr(signals, "runs")


def test_the_record_is_that_of_a_run_in_this_process(tiny: Dataset, tmp_path: Path) -> None:
    apart = execute(Toy, tiny, tmp_path / "apart", budget=1.0)
    here = prepare_run(tiny, tmp_path / "here", Toy, budget=1.0)
    assert here.execute() == apart.result
    for name in ("model.safetensors", "ranks.npz"):
        assert (apart.folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


class Searching:
    """Semantics that note what is searched for in this process, or fail."""

    def __init__(self, fails: bool) -> None:
        self.searched: list[str] = []
        self.fails = fails

    def closeness(self, split: str, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
        return np.ones(len(captions))

    def pairs_at_least(self, split: str, least: NDArray[np.float64]) -> tuple[IntVector, IntVector]:
        self.searched.append(split)
        if self.fails:
            raise RuntimeError("no graphs")
        return np.arange(len(least)), np.zeros(len(least), np.int64)


@pytest.mark.parametrize("fails", [False, True])
def test_what_fits_is_found_before_runs_start(fails: bool, tiny: Dataset, tmp_path: Path) -> None:
    semantics = Searching(fails)
    outcome = execute(Toy, replace(tiny, semantics=semantics), tmp_path, budget=0.5)
    assert semantics.searched == ["test"]  # in the parent; the search of the run, which would not be seen, is the same
    assert (outcome.status, str(outcome.error)) == (("failed", "no graphs") if fails else ("done", "None"))


class Seeing(Toy):
    """Tells what it sees of the command line."""

    def setup(self, task: Any) -> None:
        super().setup(task)
        raise RuntimeError(f"{sys.argv[1:]} {os.getppid()}")


def test_the_command_line_is_hidden_but_recorded(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/ncbench", "run", "--noise", "0.4"])
    monkeypatch.setattr(environment, "_hidden", [])
    failed = execute(Seeing, tiny, tmp_path)
    assert (failed.status, str(failed.error)) == ("failed", f"[] {os.getpid()}")
    assert "RuntimeError" in (failed.folder / "error.txt").read_text()
    done = execute(Toy, tiny, tmp_path, budget=0.5)
    assert Record(done.folder).measurements.environment.command == ["ncbench", "run", "--noise", "0.4"]  # type: ignore[union-attr]
    assert sys.argv[1:] == ["run", "--noise", "0.4"]


class Killing(Toy):
    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield {}


def test_a_process_that_dies_fails_its_run(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    leave = Fork.__exit__
    monkeypatch.setattr(Fork, "__exit__", lambda fork, *error: (ended.append(fork.process), leave(fork, *error))[1])
    outcome = execute(Killing, tiny, tmp_path)
    assert (outcome.status, repr(outcome.error)) == ("failed", f"RuntimeError({DIED!r})")
    assert (outcome.folder / "error.txt").read_text() == DIED + "\n"
    with pytest.raises(ChildProcessError):
        os.waitpid(ended[0], os.WNOHANG)  # it was waited for


def test_a_stop_is_passed_on_and_the_run_resumes(tiny: Dataset, tmp_path: Path) -> None:
    run = prepare_run(tiny, tmp_path, Toy, budget=1e6)
    planned = PlannedRun(run.spec, tiny, run.noise, Toy)

    def stop(progress: Progress) -> None:
        if stop_signal() is None:
            request_stop(signal.SIGTERM)

    with catch_signals():
        outcome = execute_apart(planned, Store(tmp_path), CPU, stop)
    assert outcome.status == "interrupted"
    assert list((outcome.folder / "checkpoint").glob("*.safetensors"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_the_run_alone_stops_the_sweep(number: signal.Signals, tiny: Dataset, tmp_path: Path) -> None:
    class Told(Toy):
        def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
            os.kill(os.getpid(), number)
            yield from super().train_epoch(epoch)

    runs = [prepare_run(tiny, tmp_path, Told, seed=seed) for seed in (0, 1)]
    planned = [PlannedRun(run.spec, tiny, run.noise, Told) for run in runs]
    with catch_signals(signal.SIGUSR2):
        outcomes = list(run_sweep(planned, Store(tmp_path), CPU, NullObserver(), executor=execute_apart))
    assert [outcome.status for outcome in outcomes] == ["interrupted"]
    assert stop_signal() == number


def test_an_error_of_the_user_is_told_in_words(tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match="tiny"):
        execute(Toy, tiny, tmp_path)


def test_cuda_must_not_have_been_used(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    run = prepare_run(tiny, tmp_path, Toy)
    with pytest.raises(UserError, match=r"^CUDA has been used in this process"):
        execute_apart(PlannedRun(run.spec, tiny, run.noise, Toy), Store(tmp_path), torch.device("cuda"), lambda _: None)


def test_where_forks_are_not_safe_runs_stay_here(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_process, "CAN_FORK", False)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    assert execute(Toy, tiny, tmp_path, budget=0.5).status == "done"
