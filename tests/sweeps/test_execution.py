"""Outcomes of runs, and runs shared between processes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import prepare_run
from toy_methods import Toy
from watching import Ends

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.records.lease import LEASE_FILE, holder_of, take
from ncbench.records.record import noise_path
from ncbench.records.store import Store
from ncbench.sweeps import execution
from ncbench.sweeps.execution import FAILURES, execute, run_sweep, status_of
from ncbench.sweeps.grid import PlannedRun
from ncbench.training.run import Run
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")


def planned(dataset: Dataset, folder: Path, seed: int = 0) -> PlannedRun:
    run: Run = prepare_run(dataset, folder, Toy, budget=0.5, seed=seed)
    return PlannedRun(run.spec, dataset, run.noise, Toy)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Diverged("the loss is nan at update 3"), "diverged"),
        (MemoryError(), "over-memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "over-memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate"),
            "over-memory",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "failed"),
        (UserError("too small"), "failed"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_what_an_error_is(error: Exception, status: str) -> None:
    assert status_of(error) == status
    assert status in FAILURES


def test_torch_says_so_when_a_cpu_has_no_more_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert status_of(caught.value) == "over-memory"


def test_a_run_that_another_holds_is_left_to_it(tiny: Dataset, tmp_path: Path) -> None:
    run, store = planned(tiny, tmp_path), Store(tmp_path)
    with take(store.folder(run.spec)):
        outcome = execute(run, store, CPU, lambda progress: None)
        assert (outcome.status, outcome.result) == ("running", None)
        assert not (store.folder(run.spec) / "spec.json").exists()
    assert execute(run, store, CPU, lambda progress: None).status == "done"
    assert not list(tmp_path.rglob("claim.json"))


@pytest.mark.parametrize("it_dies", [False, True])
def test_runs_of_other_processes_are_waited_for_at_the_end(
    it_dies: bool, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.05)
    runs, store, watcher = [planned(tiny, tmp_path, seed) for seed in (0, 1)], Store(tmp_path), Ends()
    held, free = threading.Event(), threading.Event()

    def other() -> None:
        """Hold the claim of the first run, as another process would."""
        with take(store.folder(runs[0].spec)) as claim:
            assert claim is not None
            held.set()
            assert free.wait(30)
            if not it_dies:
                execution._execute(runs[0], store, CPU, lambda progress: None, execution.DEFAULT_CADENCE, claim)

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(30)
    ended: list[Any] = []
    for outcome in run_sweep(runs, store, CPU, watcher):
        ended.append((outcome.spec.seed, outcome.status))
        free.set()
    thread.join()
    assert ended == [(1, "done"), (0, "done" if it_dies else "kept")]
    assert watcher.ends == [(1, "done"), (0, "done" if it_dies else "kept")]


@pytest.mark.parametrize("moment", ["at once", "while training", "while it notes an error"])
def test_a_run_that_loses_its_claim_stops(
    moment: str, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the claim from then on, and its files are left alone."""
    run, store = planned(tiny, tmp_path), Store(tmp_path)
    folder = store.folder(run.spec)

    def lose(*_: object) -> None:
        content = json.loads((folder / LEASE_FILE).read_text())
        (folder / LEASE_FILE).write_text(json.dumps({**content, "token": "of another process"}))
        if moment == "while it notes an error":
            raise RuntimeError("an error")

    if moment == "at once":
        monkeypatch.setattr(execution, "save_noise", lose)
    outcome = execution.execute(run, store, CPU, lose if moment != "at once" else lambda progress: None)
    assert outcome.status == "running"
    assert holder_of(folder) is not None
    assert {path.name for path in folder.iterdir()} <= {"spec.json", "claim.json", "history.jsonl"}


def test_a_run_that_starts_again_removes_what_killed_processes_were_writing(tiny: Dataset, tmp_path: Path) -> None:
    run, store = planned(tiny, tmp_path), Store(tmp_path)
    folder, shared = store.folder(run.spec), noise_path(tmp_path, run.spec).parent
    for part in (folder, folder / "checkpoint", shared):
        part.mkdir(parents=True)
        (part / ".file.x.tmp").write_text("half")
    (folder / f".{LEASE_FILE}.after-x.tmp").write_text("half")
    (shared / ".old.x.tmp").write_text("half")
    os.utime(shared / ".old.x.tmp", (0, 0))
    assert execution.execute(run, store, CPU, lambda progress: None).status == "done"
    # Another process may be writing the noise of its run.
    assert list(tmp_path.rglob("*.tmp")) == [shared / ".file.x.tmp"]
