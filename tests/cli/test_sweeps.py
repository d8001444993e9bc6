"""Sweeps seen and stopped from outside: `run --dry-run`, `runs --watch`, `cancel`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench.cli.display import dry_run, watching
from ncbench.method.registry import load_method
from ncbench.records import progress
from ncbench.records.lease import take
from ncbench.records.store import Store
from ncbench.sweeps import estimate
from ncbench.sweeps import record as sweeps_record
from ncbench.sweeps.record import find_sweep

QUICK = ("--method", "quick", "--noise", "0.2,0.4")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.05)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(sweeps_record, "LISTEN_SECONDS", 0.02)


def test_a_dry_run_tells_and_does_nothing(
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
    assert "2 runs, 0 done; to do: " in words
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (5390, "90 min"), (7200, "2.0 h"), (3 * 86400, "3.0 d")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert dry_run.duration(seconds) == words


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        (1, ""),
        (2, ": 30 s if the 2 at a time do not slow each other"),
        (None, "; how many runs Slurm admits at a time is not known here"),
    ],
)
def test_runs_at_a_time(slots: int | None, words: str) -> None:
    assert dry_run._at_a_time([10.0, 20.0, 20.0], slots) == words
    assert dry_run._at_a_time([], 3) == ""


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
        assert result.stdout.count("kept from before") == 2
    rows = strict_json(cli("runs", "--runs", runs, "--watch", "--json").stdout)
    assert [(row["noise"], row["status"], row["share"]) for row in rows] == [(0.2, "done", 1.0), (0.4, "done", 1.0)]
    assert sorted(f"{row['rsum']:.1f}" for row in rows) == sorted(rsums)


def test_watching_goes_on_until_all_have_ended(
    toy_run: Callable[..., Result], cli: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path
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
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(cli("runs", "--runs", runs, "--watch")))
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    (folder / "result.json").write_bytes(finished)
    thread.join(20)
    (result,) = results
    assert "[1/2] quick with vse on tiny, shuffle-images 0.4, seed 0: done, test rSum " in result.stdout
    assert "[2/2] failing with vse on tiny, shuffle-images 0.4, seed 0: diverged, " in result.stdout


def test_ctrl_c_ends_watching_and_nothing_else(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert toy_run(*QUICK).exit_code == 0
    next((tmp_path / "runs").glob("*/*/*/result.json")).unlink()

    def interrupt(self: object, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ncbench.sweeps.monitor.Following.pause", interrupt)
    result = cli("runs", "--runs", tmp_path / "runs", "--watch")
    assert (result.exit_code, result.stderr) == (0, "")


def test_watching_what_nobody_works_on(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert toy_run(*QUICK).exit_code == 0
    runs = tmp_path / "runs"
    result = next(runs.glob("*/*/*/result.json"))
    result.unlink()
    pauses: list[float] = []

    def pause(self: object, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2 * watching.IDLE_LOOKS:
            raise KeyboardInterrupt

    monkeypatch.setattr("ncbench.sweeps.monitor.Following.pause", pause)
    record = find_sweep(runs)
    again = f"ncbench run --config {record.folder / 'sweep.toml'}\n"
    waiting = f"Nobody is at work on sweep {record.id}; waiting. To go on with it: {again}"
    assert cli("runs", "--runs", runs, "--watch").stdout.count(waiting) == 1
    pauses.clear()
    assert "Nobody" not in cli("runs", "--runs", runs, "--watch", "--quiet").stdout
    pauses.clear()
    with take(result.parent):
        assert "Nobody" not in cli("runs", "--runs", runs, "--watch").stdout


@pytest.mark.parametrize("words", [("runs", "--watch"), ("cancel",)])
def test_no_sweep(words: tuple[str, ...], cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli(*words, "--runs", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path} holds no sweep; make one with: ncbench run ")


def test_a_sweep_is_cancelled_through_the_folder_of_records(
    toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs, told = tmp_path / "runs", list[Result]()
    quick = load_method("quick")
    train = quick.train_epoch

    def cancelled(self: Any, epoch: int) -> Iterator[dict[str, float]]:
        for scalars in train(self, epoch):
            if not told:
                told.append(cli("cancel", "--runs", runs))
                time.sleep(0.5)
            yield scalars

    with monkeypatch.context() as patch:
        patch.setattr(quick, "train_epoch", cancelled)
        result = toy_run(*QUICK)
    (said,) = told
    record = find_sweep(runs)
    again = f"ncbench run --config {record.folder / 'sweep.toml'}"
    assert said.stdout == f"Sweep {record.id}: 1 run at work is asked to save and end. To go on: {again}\n"
    assert result.exit_code == 143
    assert result.stderr.endswith(
        "Stopped by ncbench cancel: 0 of 2 runs are done, and what the others have trained is saved. "
        "The same command goes on from there.\n"
    )
    assert not list(runs.rglob("claim.json"))
    assert cli("run", "--config", record.folder / "sweep.toml").exit_code == 0
    asked = record.asked_at()
    said = cli("cancel", "--runs", runs)
    assert said.stdout == f"Sweep {record.id} is over: 2 runs done, nothing to stop.\n"
    assert record.asked_at() == asked
    next(runs.glob("*/*/*/result.json")).write_text("{")  # what is done need not be read
    assert cli("cancel", "--runs", runs).exit_code == 0


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
        "Error: --launcher here executes one run at a time, found --jobs 2; take processes.\n",
    )
