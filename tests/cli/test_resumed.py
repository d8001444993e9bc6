"""Runs that were interrupted and resumed say so, wherever they are shown."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from printed import body

from ncbench.method.registry import load_method
from ncbench.records import progress
from ncbench.records.lease import take
from ncbench.records.store import Store
from ncbench.sweeps import fresh_process

RUN = ("--method", "quick", "--noise", 0.4, "--budget", 3)


@pytest.fixture
def interrupted(toy_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of a run that was stopped by a signal after its third update."""
    monkeypatch.setattr(progress, "WRITE_INTERVAL", 0.0)
    quick = load_method("quick")
    train = quick.train_epoch

    def stop_after_three(self: Any, epoch: int) -> Iterator[dict[str, float]]:
        for number, scalars in enumerate(train(self, epoch)):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield scalars

    with monkeypatch.context() as patch:
        patch.setattr(fresh_process, "CAN_FORK", False)  # the signal is for this process
        patch.setattr(quick, "train_epoch", stop_after_three)
        assert toy_run(*RUN).exit_code == 128 + signal.SIGTERM
    (folder,) = (tmp_path / "runs" / "tiny" / "quick").iterdir()
    return folder


def share_in_words(folder: Path) -> str:
    """Return how far an interrupted run came."""
    share = json.loads((folder / "progress.json").read_text())["share"]
    assert 0 < share < 1
    return f"{share:.0%}"


def headings(table: str) -> list[str]:
    """Return the words in the headings of a printed table."""
    return " ".join(line for line in table.splitlines() if line.startswith("┃")).split()


def test_a_resumed_run_says_so_everywhere(
    interrupted: Path, toy_run: Callable[..., Result], cli: Callable[..., Result], strict_json: Callable[[str], Any]
) -> None:
    root, at = interrupted.parents[2], share_in_words(interrupted)
    assert f"\nstatus: interrupted at {at}\n" in cli("show", interrupted).stdout
    assert "resumed" not in headings(cli("runs", "--runs", root).stdout)
    again = toy_run(*RUN)
    assert again.exit_code == 0, again.output
    assert f"seed 0: done, resumed at {at}, test rSum " in again.stdout
    (record,) = Store(root).results()
    assert record.measurements is not None
    assert f"{record.measurements.resumed_at:.0%}" == at
    assert f"\nstatus: done, resumed at {at}\n" in cli("show", interrupted).stdout
    listed = cli("runs", "--runs", root).stdout
    assert "resumed" in headings(listed)
    assert body(listed)[0][-1] == at
    assert f"{strict_json(cli('runs', '--runs', root, '--json').stdout)[0]['resumed_at']:.0%}" == at
    for words in (("--watch",), ("--sweep", "")):
        shown = cli("runs", "--runs", root, *words).stdout
        assert "resumed" in headings(shown)
        assert at in body(shown)[0]
    (watched,) = strict_json(cli("runs", "--runs", root, "--watch", "--json").stdout)
    assert f"{watched['resumed_at']:.0%}" == at


def test_a_resumed_run_says_so_while_it_runs(
    interrupted: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any]
) -> None:
    root = interrupted.parents[2]
    content = {"share": 0.5, "doing": "training", "left": 90.0, "dev_rsum": 12.5, "resumed_at": 0.4}
    (interrupted / "progress.json").write_text(json.dumps(content))
    (running,) = strict_json(cli("runs", "--runs", root, "--json").stdout)
    assert (running["status"], running["resumed_at"]) == ("interrupted", 0.4)

    with take(interrupted):
        assert "\nstatus: running at 50%, resumed at 40%\n" in cli("show", interrupted).stdout
        listed = body(cli("runs", "--runs", root).stdout)[0]
        assert listed[-2:] == ["40%", "running"]
        assert "40%" in body(cli("runs", "--runs", root, "--sweep", "").stdout)[0]
        (watched,) = strict_json(cli("runs", "--runs", root, "--sweep", "", "--json").stdout)
        assert (watched["status"], watched["resumed_at"]) == ("running", 0.4)


def test_watching_a_run_that_is_resumed(
    interrupted: Path, toy_run: Callable[..., Result], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = share_in_words(interrupted)
    monkeypatch.setattr("ncbench.sweeps.monitor.Monitor.wait", lambda *_: toy_run(*RUN))
    watched = cli("runs", "--runs", interrupted.parents[2], "--watch")
    assert watched.exit_code == 0, watched.output
    assert f"seed 0: done, resumed at {at}, test rSum " in watched.stdout


def test_runs_that_were_not_resumed_do_not_speak_of_it(
    toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    told = [toy_run("--method", "quick", "--noise", 0.4)]
    told += [cli("runs", "--runs", tmp_path / "runs", *words) for words in ((), ("--watch",))]
    told.append(cli("show", next((tmp_path / "runs").glob("tiny/quick/*"))))
    for result in told:
        assert result.exit_code == 0
        assert "resumed" not in headings(result.stdout)
        assert ", resumed" not in result.stdout
