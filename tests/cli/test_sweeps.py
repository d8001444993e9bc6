"""Sweeps watched and stopped from outside: `run --dry-run`, `runs --watch`, `cancel`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.testing import Result

from ncbench.cli.display import dry_run, watching
from ncbench.method.registry import load_method
from ncbench.records import progress
from ncbench.records.lease import take
from ncbench.records.store import Store
from ncbench.runtime import signals
from ncbench.sweeps import estimate
from ncbench.sweeps import record as sweeps_record
from ncbench.sweeps.devices import measured_devices
from ncbench.sweeps.record import find_sweep

QUICK = ("--method", "quick", "--noise", "0.2,0.4")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.05)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(sweeps_record, "STOP_POLL_SECONDS", 0.02)


def test_a_dry_run_prints_estimates_and_writes_nothing(
    toy_run: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path
) -> None:
    result = toy_run(*QUICK, "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "runs").exists()
    assert result.stderr == "Measuring the speed of quick with vse on tiny, shuffle-images 0.2, seed 0 ...\n"
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in result.stdout.splitlines() if line[:1] == "│"]
    assert [(row[4], row[7], row[10]) for row in rows] == [
        ("0.2", "waiting", "measured here (cpu)"),
        ("0.4", "waiting", "measured here (cpu)"),
    ]
    words = " ".join(result.stdout.split())
    assert "2 runs, 0 done; remaining: " in words
    assert "Nothing was run (--dry-run, --launcher processes)." in words
    assert toy_run("--method", "quick", "--noise", "0.2").exit_code == 0
    before = sorted((tmp_path / "runs").rglob("*"))
    content = strict_json(toy_run(*QUICK, "--dry-run", "--json").stdout)
    assert sorted((tmp_path / "runs").rglob("*")) == before
    done, waiting = content["runs"]
    assert (done["status"], waiting["status"]) == ("done", "waiting")
    assert {done["speed"], waiting["speed"]} == {"1 record (cpu)"}
    assert (done["seconds_left"], waiting["seconds_left"]) == (0.0, waiting["seconds"])
    assert content["seconds_left"] == waiting["seconds"]
    assert content["jobs"] == 1
    (record,) = Store(tmp_path / "runs").results()
    assert done["training_flops"] == record.result.work.budget


def test_a_dry_run_says_what_it_assumes(toy_run: Callable[..., Result], strict_json: Callable[[str], Any]) -> None:
    (name, device), *_ = measured_devices().items()
    result = toy_run(*QUICK, "--dry-run", "--assume", name)
    assert (result.exit_code, result.stderr) == (0, "")
    words = " ".join(result.stdout.split())
    assert f"Assumed: {device.words}; every method trains as fast per FLOP as plain training does there" in words
    assert "Peak memory of a run: at least " in words
    assert "By number of devices, with one run at a time on each: 1: " in words
    content = strict_json(toy_run(*QUICK, "--dry-run", "--assume", name, "--json").stdout)
    assert content["assumed"].startswith(device.words)
    assert all(run["peak_is_floor"] and run["peak_bytes"] > 0 for run in content["runs"])
    first, second = (run["seconds_left"] for run in content["runs"])
    assert content["seconds_on_devices"]["1"] == first + second
    assert content["seconds_on_devices"]["4"] == max(first, second)
    measured = " ".join(toy_run(*QUICK, "--dry-run").stdout.split())
    assert "Assumed: runs are as fast as those of the same kind were: measured here (cpu)." in measured


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--assume", "here"), "--assume needs --dry-run"),
        (("--dry-run", "--assume", "abacus"), "unknown device for --assume 'abacus'"),
        (
            ("--dry-run", "--assume", "here"),
            "the speed of this machine's cpu is not known; run: ncbench doctor --speed",
        ),
    ],
)
def test_devices_that_cannot_be_assumed(
    words: tuple[str, ...],
    problem: str,
    toy_run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "empty"))
    result = toy_run(*QUICK, *words)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


def test_a_dry_run_of_several_methods_says_what_each_costs(toy_run: Callable[..., Result]) -> None:
    shown = toy_run("--method", "quick,triplet", "--noise", "0.2,0.4", "--dry-run").stdout
    table = shown[shown.index("By method, most expensive first") :]
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in table.splitlines() if line[:1] == "│"]
    assert sorted((row[0], row[1]) for row in rows) == [("quick", "2"), ("triplet", "2")]
    assert all(row[5].endswith("iB") and float(row[4]) < 1 for row in rows)
    assert "By method" not in toy_run(*QUICK, "--dry-run").stdout


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        (1, ""),
        (2, ", 30 s if 2 parallel runs do not slow each other down"),
        (None, "; the number of runs that Slurm executes in parallel is unknown"),
    ],
)
def test_runs_at_a_time(slots: int | None, words: str) -> None:
    assert dry_run._in_parallel([10.0, 20.0, 20.0], slots) == words
    assert dry_run._in_parallel([], 3) == ""


def test_watching_a_sweep_that_is_done(
    toy_run: Callable[..., Result], cli: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path
) -> None:
    assert toy_run(*QUICK).exit_code == 0
    runs = tmp_path / "runs"
    rsums = [f"{record.result.metrics.test.rsum:.1f}" for record in Store(runs).results()]
    for words in (("--watch",), ("--sweep", find_sweep(runs).id[:4])):
        result = cli("runs", "--runs", runs, *words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert all(rsum in result.stdout for rsum in rsums)
        assert result.stdout.count("already done") == 2
    rows = strict_json(cli("runs", "--runs", runs, "--watch", "--json").stdout)
    assert [(row["noise"], row["status"], row["share"]) for row in rows] == [(0.2, "done", 1.0), (0.4, "done", 1.0)]
    assert sorted(f"{row['rsum']:.1f}" for row in rows) == sorted(rsums)


def test_watching_lasts_until_all_runs_have_ended(
    toy_run: Callable[..., Result],
    cli: Callable[..., Result],
    strict_json: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert toy_run("--method", "quick,failing", "--noise", 0.4).exit_code == 1
    runs = tmp_path / "runs"
    (folder,) = (runs / "tiny" / "quick").iterdir()
    finished = (folder / "result.json").read_bytes()
    (folder / "result.json").unlink()
    waiting = strict_json(cli("runs", "--runs", runs, "--watch", "--json").stdout)
    assert [(row["method"], row["status"]) for row in waiting] == [("quick", "waiting"), ("failing", "diverged")]
    with take(folder):
        (folder / "progress.json").write_text('{"share": 0.5, "doing": "training", "left": 90.0, "dev_rsum": 12.5}')
        running, _ = strict_json(cli("runs", "--runs", runs, "--sweep", find_sweep(runs).id, "--json").stdout)
        assert (running["status"], running["share"], running["left"], running["dev_rsum"]) == ("running", 0.5, 90, 12.5)
        shown = cli("runs", "--runs", runs, "--sweep", find_sweep(runs).id).stdout
        assert "1:30" in shown
        assert "12.5" in shown
    waits: list[float] = []

    def wait(self: object, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (folder / "result.json").write_bytes(finished)

    monkeypatch.setattr("ncbench.sweeps.monitor.Monitor.wait", wait)
    result = cli("runs", "--runs", runs, "--watch")
    assert len(waits) == 3
    assert "[1/2] quick with vse on tiny, shuffle-images 0.4, seed 0: done, test rSum " in result.stdout
    assert "[2/2] failing with vse on tiny, shuffle-images 0.4, seed 0: diverged, " in result.stdout


def test_ctrl_c_ends_watching_and_nothing_else(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert toy_run(*QUICK).exit_code == 0
    next((tmp_path / "runs").glob("*/*/*/result.json")).unlink()

    def interrupt(self: object, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ncbench.sweeps.monitor.Monitor.wait", interrupt)
    result = cli("runs", "--runs", tmp_path / "runs", "--watch")
    assert (result.exit_code, result.stderr) == (0, "")


def test_watching_an_idle_sweep(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert toy_run(*QUICK).exit_code == 0
    runs = tmp_path / "runs"
    result = next(runs.glob("*/*/*/result.json"))
    result.unlink()
    pauses: list[float] = []

    def pause(self: object, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2 * watching.IDLE_POLLS:
            raise KeyboardInterrupt

    monkeypatch.setattr("ncbench.sweeps.monitor.Monitor.wait", pause)
    record = find_sweep(runs)
    again = f"ncbench run --config {record.folder / 'sweep.toml'}\n"
    waiting = f"No process is working on sweep {record.id}. To resume: {again}"
    idle = cli("runs", "--runs", runs, "--watch")
    assert (idle.exit_code, idle.stdout.count(waiting), len(pauses)) == (watching.IDLE_CODE, 1, watching.IDLE_POLLS - 1)
    pauses.clear()
    waited = cli("runs", "--runs", runs, "--watch", "--wait")
    assert (waited.exit_code, waited.stdout.count(waiting)) == (0, 1)
    pauses.clear()
    quiet = cli("runs", "--runs", runs, "--watch", "--quiet")
    assert (quiet.exit_code, "No process" in quiet.stdout) == (watching.IDLE_CODE, False)
    pauses.clear()
    with take(result.parent):
        assert "No process" not in cli("runs", "--runs", runs, "--watch").stdout


def test_waiting_without_watching(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("runs", "--runs", tmp_path, "--wait")
    assert (result.exit_code, result.stderr) == (2, "Error: --wait needs --watch.\n")


@pytest.mark.parametrize("words", [("runs", "--watch"), ("cancel",)])
def test_no_sweep(words: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli(*words, "--runs", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path} contains no sweeps. Create one with: ncbench run ")


@pytest.mark.usefixtures("in_this_process")
def test_a_sweep_is_cancelled_through_the_folder_of_records(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs, cancelled = tmp_path / "runs", list[str]()
    begun, stopped = threading.Event(), threading.Event()
    quick = load_method("quick")
    train = quick.train_epoch

    def cancel_at_the_first_update(self: Any, epoch: int) -> Iterator[dict[str, float]]:
        for scalars in train(self, epoch):
            begun.set()
            assert stopped.wait(60)
            yield scalars

    def cancel() -> None:  # from outside, as a method may not read records
        assert begun.wait(60)
        command = "from ncbench.cli import main; main()"
        words = [sys.executable, "-c", command, "cancel", "--runs", str(runs)]
        cancelled.append(subprocess.run(words, capture_output=True, text=True, timeout=60).stdout)

    original = signals.request_stop

    def request_stop(number: int, frame: FrameType | None = None) -> None:
        original(number, frame)
        stopped.set()

    with monkeypatch.context() as patch:
        patch.setattr(quick, "train_epoch", cancel_at_the_first_update)
        patch.setattr(signals, "request_stop", request_stop)
        canceller = threading.Thread(target=cancel)
        canceller.start()
        result = toy_run(*QUICK)
        canceller.join()
    (said,) = cancelled
    record = find_sweep(runs)
    again = f"ncbench run --config {record.folder / 'sweep.toml'}"
    assert said == f"Sweep {record.id}: requested 1 active run to stop. To resume: {again}\n"
    assert result.exit_code == 143
    assert "Stopped by ncbench cancel: 0 of 2 runs done. " in result.stderr
    assert result.stderr.endswith("Rerun the same command to resume.\n")
    assert not list(runs.rglob("claim.json"))
    assert cli("run", "--config", record.folder / "sweep.toml").exit_code == 0
    request = record.last_stop_request()
    output = cli("cancel", "--runs", runs)
    assert output.stdout == f"Sweep {record.id} is complete: 2 runs done, nothing to stop.\n"
    assert record.last_stop_request() == request
    next(runs.glob("*/*/*/result.json")).write_text("{")  # results are not read
    assert cli("cancel", "--runs", runs).exit_code == 0


@pytest.mark.usefixtures("in_this_process")
def test_runs_leave_no_progress_behind(
    toy_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "WRITE_INTERVAL", 0.0)
    seen: list[Path] = []
    write = progress.write_atomic
    monkeypatch.setattr(progress, "write_atomic", lambda path, *a, **k: seen.append(path) or write(path, *a, **k))
    assert toy_run("--method", "quick", "--noise", 0.2).exit_code == 0
    assert {path.name for path in seen} == {"progress.json"}
    assert not list((tmp_path / "runs").rglob("progress.json"))


def test_jobs_are_for_launchers_that_have_some(toy_run: Callable[..., Result]) -> None:
    result = toy_run(*QUICK, "--launcher", "here", "--jobs", 2)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: --launcher here executes one run at a time, found --jobs 2. Use --launcher processes.\n",
    )
