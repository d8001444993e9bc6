"""Sweeps whose processes are killed at random moments end with the same records as undisturbed ones."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from left_behind import records
from places import FIXTURES

DATA = FIXTURES / "f30k"
SETTINGS = [
    *("--set", "backbone.embed=16", "--set", "backbone.word=8", "--set", "backbone.similarity=8"),
    *("--set", "l2rm.batch_size=8", "--set", "l2rm.queue=16", "--set", "l2rm.warmup=0.4"),
    *("--set", "ncr.batch_size=8", "--set", "ncr.warmup=0.4"),
]
PATIENCE = 300.0


def start(out: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a sweep of two methods that writes checkpoints as often as possible."""
    command = [sys.executable, "-c", "from ncbench.cli import main; main()", "run", "--method", "l2rm,ncr"]
    command += ["--dataset", "f30k", "--data-root", str(DATA), "--noise", "0.2", "--backbone", "vse", *SETTINGS]
    command += ["--budget", "12", "--evaluations", "3", "--checkpoint-every", "0", "--out", str(out), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> None:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said.decode()


def parent_of(process: int) -> int:
    """Return the process that started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for_training(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Wait until the process starts to train or has ended; return whether it trains."""
    before = set(out.rglob("spec.json"))
    deadline = time.monotonic() + PATIENCE
    stamps = {path: path.stat().st_mtime_ns for path in before}
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if any(stamps.get(path) != path.stat().st_mtime_ns for path in out.rglob("spec.json")):
            return True
        time.sleep(0.005)
    raise AssertionError("nothing was trained")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    """Return the records of an undisturbed sweep, and its training time in seconds."""
    out = tmp_path_factory.mktemp("whole")
    process = start(out)
    wait_for_training(process, out)
    since = time.monotonic()
    finish(process)
    return records(out), time.monotonic() - since


@pytest.mark.parametrize(
    "kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.torture)]
)
def test_killed_at_random_moments(kills: int, whole: tuple[dict[str, object], float], tmp_path: Path) -> None:
    expected, seconds = whole
    moments = random.Random(kills)
    for _ in range(kills):
        process = start(tmp_path)
        if wait_for_training(process, tmp_path):
            time.sleep(moments.uniform(0, 1.5 * seconds / min(kills, 8)))
        process.kill()
        process.communicate()
    finish(start(tmp_path))
    assert records(tmp_path) == expected


@pytest.mark.torture
def test_asked_to_stop(whole: tuple[dict[str, object], float], tmp_path: Path) -> None:
    expected, seconds = whole
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(tmp_path)
        assert wait_for_training(process, tmp_path)
        time.sleep(seconds / 8)
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + number
        assert f"Stopped by {number.name}: " in said.decode()
    finish(start(tmp_path))
    assert records(tmp_path) == expected


@pytest.mark.torture
def test_four_processes_share_a_sweep_and_one_is_killed(whole: tuple[dict[str, object], float], tmp_path: Path) -> None:
    expected, seconds = whole
    processes = [start(tmp_path) for _ in range(4)]
    assert wait_for_training(processes[0], tmp_path)
    time.sleep(seconds / 6)
    claims = [json.loads(path.read_text()) for path in tmp_path.rglob("claim.json")]
    at_work = {parent_of(claim["process"]) for claim in claims}  # each run has a process of its own
    victim = next(process for process in processes if process.pid in at_work)
    victim.kill()
    victim.communicate()
    for process in processes:
        if process is not victim:
            finish(process)
    assert records(tmp_path) == expected
    assert len(claims) == 2  # one process per run


@pytest.mark.torture
def test_workers_stop_with_their_parent(whole: tuple[dict[str, object], float], tmp_path: Path) -> None:
    expected, seconds = whole
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start(tmp_path, "--jobs", "2")
        assert wait_for_training(process, tmp_path)
        time.sleep(seconds / 8)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)  # workers keep its output open while they live
        assert not list(tmp_path.rglob("claim.json"))
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    finish(start(tmp_path, "--jobs", "2"))
    assert records(tmp_path) == expected
