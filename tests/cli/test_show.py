"""`ncbench show`: one run on one screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench.evaluation.beliefs import Detection
from ncbench.records.store import Store


@pytest.fixture
def recorded(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return the folder of a finished run."""
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 3).exit_code == 0
    (record,) = Store(tmp_path / "runs").results()
    return record.folder


def test_a_finished_run(recorded: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    record = next(Store(tmp_path / "runs").results())
    shown = cli("show", recorded)
    assert (shown.exit_code, shown.stderr) == (0, "")
    scores = record.result.metrics.test
    for text in (
        f"{recorded.name}: quick with vse on tiny, shuffle-images 0.4, seed 0\nstatus: done\n",
        f"Scores on test, rSum {scores.rsum:.1f}",
        f"{scores.i2t.r10:.1f}",
        f"last {record.history[-1].dev.rsum:.1f}, {len(record.history)} evaluations",
        f"selected: dev rSum {record.result.selected.dev_rsum:.1f}, at ",
        "baseline epochs), ",
        "history.jsonl",
    ):
        assert text in shown.stdout
    assert "error.txt" not in shown.stdout


def test_scores_for_all_that_fits(recorded: Path, cli: Callable[..., Result]) -> None:
    shown = cli("show", recorded).stdout
    path = recorded / "result.json"
    content = json.loads(path.read_text())
    found = content["metrics"]["fitting"]
    assert f"All that fits, {found['pairs']} pairs, in %" in shown
    assert "fitting.npz" in shown
    found["i2t"].update(map_at_r=12.34, r_precision=45.67, r1=78.91, forgiven=None)
    path.write_text(json.dumps(content))
    lines = [line for line in cli("show", recorded).stdout.splitlines() if "image to text" in line]
    assert [cell.strip() for cell in lines[1].strip("│").split("│")[1:]] == ["12.3", "45.7", "78.9", "-"]
    del content["metrics"]["fitting"]  # as in older records
    path.write_text(json.dumps(content))
    assert "All that fits" not in cli("show", recorded).stdout


def test_beliefs_at_each_evaluation(recorded: Path, cli: Callable[..., Result]) -> None:
    path = recorded / "history.jsonl"
    history = [json.loads(line) for line in path.read_text().splitlines()]
    for line in history:
        for name in ("detection", "soft_labels", "plan"):
            line.pop(name, None)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in history))
    assert "Beliefs at each evaluation" not in cli("show", recorded).stdout
    history[-1]["detection"] = asdict(Detection(0.8765, None, None, 0.1234, 4, 10))
    history[-1]["plan"] = {"true": 0.25, "closer": 0.5, "even": 0.1}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in history))
    shown = cli("show", recorded).stdout
    assert "Beliefs at each evaluation" in shown
    for value in ("0.876", "0.123", "0.750", f"{history[-1]['share']:.0%}"):
        assert value in shown


@pytest.mark.parametrize("digits", [4, 12])
def test_a_run_by_its_id(recorded: Path, cli: Callable[..., Result], tmp_path: Path, digits: int) -> None:
    by_id = cli("show", recorded.name[:digits], "--runs", tmp_path / "runs")
    assert by_id.stdout == cli("show", recorded).stdout


def test_as_json(recorded: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path) -> None:
    content = strict_json(cli("show", recorded, "--json").stdout)
    record = next(Store(tmp_path / "runs").results())
    assert content["status"] == "done"
    assert content["result"] == record.result.to_dict()
    assert [line["dev"]["rsum"] for line in content["history"]] == [line.dev.rsum for line in record.history]
    assert str(recorded / "history.jsonl") in content["files"]


def test_a_failed_run(toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "failing", "--noise", 0.4).exit_code == 1
    (folder,) = (tmp_path / "runs" / "tiny" / "failing").iterdir()
    shown = cli("show", folder)
    assert shown.exit_code == 0
    assert "\nstatus: diverged" in shown.stdout
    assert "Scores" not in shown.stdout
    assert "error.txt" in shown.stdout


def test_no_such_run(recorded: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("nothing", "*", "000000000000"):
        result = cli("show", name, "--runs", root)
        assert result.exit_code == 2
        assert f"Error: {name}: no such run; expected a run folder, such as {root}/scenes" in result.stderr


def test_an_id_that_fits_two_runs(toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "quick", "--noise", "0.2,0.4").exit_code == 0
    folders = sorted((tmp_path / "runs" / "tiny" / "quick").iterdir())
    for number, folder in enumerate(folders):
        folder.rename(folder.with_name(f"abc{number}"))
    result = cli("show", "abc", "--runs", tmp_path / "runs")
    assert (result.exit_code, "abc: 2 runs in" in result.stderr, "abc0, abc1" in result.stderr) == (2, True, True)


def test_a_run_of_an_earlier_harness_says_so(
    recorded: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncbench.records import spec

    assert "harness" not in cli("show", recorded).stdout
    monkeypatch.setattr(spec, "HARNESS", spec.HARNESS + 1)
    assert f"harness: {spec.HARNESS - 1}, an earlier version; " in cli("show", recorded).stdout
