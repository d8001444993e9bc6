"""Sweeps on a real Slurm end with the same records as local ones, whatever happens to their jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster import SLOTS, Cluster
from left_behind import records
from places import FIXTURES

from ncbench.sweeps.launchers.slurm import jobs_of
from ncbench.sweeps.record import find_sweep

pytestmark = pytest.mark.slurm

DATA = FIXTURES / "f30k"
NCBENCH = [sys.executable, "-c", "from ncbench.cli import main; main()"]
SMALL = ["--set", "backbone.embed=16", "--set", "backbone.word=8", "--set", "backbone.similarity=8"]
SMALL += ["--set", "l2rm.batch_size=8", "--set", "l2rm.queue=16", "--set", "ncr.batch_size=8"]
GRID = ["--method", "l2rm,ncr", "--dataset", "f30k", "--data-root", str(DATA), "--noise", "0.2", "--backbone", "vse"]
GRID += [*SMALL, "--evaluations", "3", "--checkpoint-every", "1", "--device", "cpu"]
ENOUGH = ["--budget", "100"]  # for two jobs to meet, however late the second starts
LONG = ["--budget", "1e6"]
ON_SLURM = ["--launcher", "slurm", "--slurm", "partition=all,time=30m"]
PATIENCE = 240.0
ALLOCATION = "time=4m,signal_delay=90"  # Slurm may send the signal a minute before that


def wait(happened: Callable[[], object], what: str) -> Any:
    """Wait until `happened()` is true, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


@contextmanager
def started(cluster: Cluster, out: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start `ncbench run` with GRID and further arguments; kill it at the end if it still runs."""
    environment = {**cluster.environment, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*NCBENCH, "run", *GRID, "--out", str(out), *words], env=environment, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def jobs_at_work(out: Path) -> dict[str, str]:
    """Return the Slurm jobs of running runs that have written a checkpoint, by method."""
    try:
        jobs = jobs_of(find_sweep(out))
    except Exception:
        return {}
    at_work = [p.parents[1] for p in out.glob("*/*/*/checkpoint/*.json") if (p.parents[1] / "claim.json").exists()]
    return {folder.parent.name: jobs[folder.name] for folder in at_work if folder.name in jobs}


def process_of(method: str, out: Path) -> int:
    """Return the id of the process that executes the run of a method."""
    (claim,) = out.glob(f"f30k/{method}/*/claim.json")
    number: int = json.loads(claim.read_text())["process"]
    return number


def start_again(cluster: Cluster, job: str, out: Path) -> None:
    """Wait until a job is requeued, and skip the two minutes that Slurm delays it."""
    wait(lambda: cluster.call("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip() == "PENDING", "requeue")
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")


@pytest.fixture(scope="module")
def expected(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the records of the sweep, made in one process."""
    out = tmp_path_factory.mktemp("here")
    with started(cluster, out, *ENOUGH, "--seed", "0,1", "--launcher", "here") as process:
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
    return records(out)


def test_jobs_that_are_requeued_end_in_the_same_records(
    cluster: Cluster, expected: dict[str, object], tmp_path: Path
) -> None:
    words = (*ENOUGH, "--seed", "0,1", *ON_SLURM, "--jobs", str(SLOTS))
    with started(cluster, tmp_path, *words) as process:
        jobs = wait(lambda: found if len(found := jobs_at_work(tmp_path)) == SLOTS else None, "two jobs at work")
        # By submitit's hook, as shortly before the time is up; and from outside, as a preemption. The signal is sent
        # without scancel, which waits as long as an array of this Slurm has tasks that are pending.
        os.kill(process_of("ncr", tmp_path), signal.SIGUSR2)
        cluster.call("scontrol", "requeue", jobs["l2rm"])
        for job in jobs.values():
            start_again(cluster, job, tmp_path)
        said, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complaints
    assert said.count(": done, ") == 4
    assert records(tmp_path) == expected
    logs = find_sweep(tmp_path).folder / "slurm"
    for method, job in jobs.items():
        log = (logs / f"{job}_0_log.out").read_text()
        assert log.count("Loading pickle") == 2, method  # two allocations
        assert ("Calling checkpoint method" in log) == (method == "ncr")


def checkpoints(out: Path) -> set[int]:
    return {int(path.stem) for path in out.glob("*/l2rm/*/checkpoint/*.json")}


def test_the_time_limit_of_slurm_saves_and_requeues(cluster: Cluster, tmp_path: Path) -> None:
    """Slurm itself sends the signal, before the time of the allocation is up; the next allocation goes on."""
    words = (*LONG, "--checkpoint-every", "1e6")
    with started(cluster, tmp_path, *words, "--launcher", "slurm", "--slurm", f"partition=all,{ALLOCATION}") as process:
        (spec,) = wait(lambda: list(tmp_path.glob("*/l2rm/*/spec.json")), "a run")
        job = jobs_of(find_sweep(tmp_path))[spec.parent.name]
        assert not checkpoints(tmp_path)
        start_again(cluster, job, tmp_path)
        first = checkpoints(tmp_path)
        assert len(first) == 1  # by the signal alone
        wait((spec.parent / "claim.json").exists, "the second allocation")
        cancel = [*NCBENCH, "cancel", "--runs", tmp_path]
        subprocess.run(cancel, check=True, capture_output=True, timeout=PATIENCE, env=cluster.environment)
        process.communicate(timeout=PATIENCE)
    assert max(checkpoints(tmp_path)) > max(first)
    log = (find_sweep(tmp_path).folder / "slurm" / f"{job}_0_log.out").read_text()
    assert log.count("Calling checkpoint method") == 1
    assert not list(tmp_path.rglob("claim.json"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_same_command_follows_jobs_that_are_there(cluster: Cluster, tmp_path: Path) -> None:
    with started(cluster, tmp_path, *LONG, *ON_SLURM) as first:
        jobs = wait(lambda: found if len(found := jobs_at_work(tmp_path)) == SLOTS else None, "two jobs at work")
        first.send_signal(signal.SIGINT)
        _, complaints = first.communicate(timeout=PATIENCE)
    assert first.returncode == 128 + signal.SIGINT
    assert complaints.startswith("Stopped by SIGINT: 0 of 2 runs done. Slurm jobs keep running.")
    with started(cluster, tmp_path, *LONG, *ON_SLURM, "--json") as second:
        shown = subprocess.run(
            [*NCBENCH, "runs", "--runs", tmp_path, "--watch", "--json"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert {row["status"] for row in json.loads(shown.stdout)} == {"running"}
        assert jobs_of(find_sweep(tmp_path)) == {p.parent.name: jobs[p.parents[1].name] for p in specs(tmp_path)}
        stop = subprocess.run(
            [*NCBENCH, "cancel", "--runs", tmp_path],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=cluster.environment,
        )
        assert stop.returncode == 0, stop.stderr
        assert "cancelled 2 Slurm jobs" in stop.stdout
        _, complaints = second.communicate(timeout=PATIENCE)
    assert "Stopped by ncbench cancel: 0 of 2 runs done" in complaints
    wait(lambda: not cluster.call("squeue", "--noheader").strip(), "an empty queue")
    assert not list(tmp_path.rglob("claim.json"))
    assert {json.loads(path.read_text())["status"] for path in tmp_path.rglob("status.json")} == {"interrupted"}


def specs(out: Path) -> list[Path]:
    return sorted(out.glob("*/*/*/spec.json"))


def test_jobs_that_come_to_grief(cluster: Cluster, tmp_path: Path) -> None:
    with started(cluster, tmp_path, *LONG, *ON_SLURM) as process:
        jobs = wait(lambda: found if len(found := jobs_at_work(tmp_path)) == SLOTS else None, "two jobs at work")
        os.kill(process_of("l2rm", tmp_path), signal.SIGKILL)
        cluster.call("scancel", jobs["ncr"])
        _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (lost,) = [line for line in complaints.splitlines() if line.startswith("failed: ")]
    assert "l2rm with vse on f30k, shuffle-images 0.2, seed 0" in lost
    assert "its process died; the system may have run out of memory" in lost
    assert "Interrupted from outside: 0 of 2 runs done. Unfinished runs are saved." in complaints


def test_what_slurm_refuses_is_told(cluster: Cluster, tmp_path: Path) -> None:
    with started(cluster, tmp_path, *LONG, "--launcher", "slurm", "--slurm", "partition=nosuch") as process:
        _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert complaints.startswith("Error: Slurm rejected the jobs: ")
    assert "invalid partition specified: nosuch" in complaints
    assert len(complaints.splitlines()) == 1
