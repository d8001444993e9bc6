"""`ncbench replay`: identical replays and reported differences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from ncbench.records.spec import HARNESS
from ncbench.sweeps.replay import compare


@pytest.fixture
def run(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return the folder of a recorded run."""
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    return folder


def last_line(result: Result) -> str:
    return result.stdout.splitlines()[-1]


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("words", [(), ("--noise", 0), ("--backbone", "sgraf"), ("--budget", "2own-epochs")])
def test_the_same_comes_out(
    words: tuple[object, ...], toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4, *words).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    result = cli("replay", folder)
    assert result.exit_code == 0
    assert last_line(result) == "identical: all scores, all dev evaluations and the training work"


def test_noise_from_an_index_file_comes_from_the_record(
    toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4).exit_code == 0
    (index,) = (tmp_path / "runs/tiny/noise").glob("*.npy")
    words = ("--protocol", f"file:{index}", "--out", tmp_path / "more")
    assert toy_run("--method", "quick", "--noise", 0.4, *words).exit_code == 0
    index.unlink()
    (folder,) = (tmp_path / "more/tiny/quick").iterdir()
    assert last_line(cli("replay", folder)).startswith("identical")


def test_older_records_lack_what_came_later(run: Path, cli: Callable[..., Result]) -> None:
    change(run / "result.json", lambda result: [result["work"].pop("samples"), result.pop("vocabulary_digest")])
    assert last_line(cli("replay", run)).startswith("identical")


def test_a_run_of_an_earlier_harness_is_refused_in_one_line(run: Path, cli: Callable[..., Result]) -> None:
    change(run / "spec.json", lambda spec: spec.pop("harness"))
    result = cli("replay", run)
    message = (
        f"Error: {run}: made by an earlier version of the harness (1, here {HARNESS}), and results differ since; "
        "replay it with the version of ncbench that recorded it.\n"
    )
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)
    change(run / "spec.json", lambda spec: spec.update(harness=HARNESS + 1))
    assert f"made by a later version of the harness ({HARNESS + 1}, here {HARNESS})" in cli("replay", run).stderr


def test_small_and_large_differences(run: Path, cli: Callable[..., Result]) -> None:
    change(run / "result.json", lambda result: result["metrics"]["test"]["i2t"].update(r1=0.25))
    again = cli("replay", run, "--tolerance", 100)
    assert again.exit_code == 0
    assert last_line(again).startswith("within tolerance: test recalls differ by up to ")
    detail = "first difference in metrics.test.i2t.r1 of the result; all dev evaluations are equal"
    assert last_line(again).endswith(f"points (tolerance 100); {detail}")
    again = cli("replay", run, "--tolerance", 0)
    assert again.exit_code == 1
    assert last_line(again).startswith("different: ")


def test_where_the_course_differs_first(run: Path, cli: Callable[..., Result], strict_json: Callable[..., Any]) -> None:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    lines[1]["dev"]["rsum"] += 3
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = strict_json(cli("replay", run, "--json").stdout)
    assert (verdict["outcome"], verdict["largest"]) == ("within tolerance", 0.0)
    assert verdict["detail"].startswith("first difference at dev evaluation 2 of 2, in dev.rsum: recorded dev rSum ")
    now, then = lines[1]["dev"]["rsum"] - 3, lines[1]["dev"]["rsum"]
    share = f"{lines[1]['share']:.0%}"
    assert f"recorded dev rSum {then:.1f} at {share} of the budget, found {now:.1f} at {share}" in verdict["detail"]
    (run / "history.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert "recorded 1 dev evaluations, found 2" in cli("replay", run).stdout


def test_a_budget_in_seconds_is_said_to_differ(
    toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4, "--budget", "1s").exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    change(folder / "result.json", lambda result: result["work"].update(updates=10**6))
    assert "with a budget in seconds, results depend on the speed of the machine" in cli("replay", folder).stdout


def test_the_replay_is_kept_where_asked(run: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert cli("replay", run, "--out", out).exit_code == 0
    kept = out / "tiny/quick" / run.name
    assert compare(run, kept, 0).outcome == "identical"
    result = cli("replay", run, "--out", out)
    message = f"Error: {kept} already contains this run; choose another --out folder.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_an_unfinished_run(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("replay", tmp_path)
    message = f"Error: {tmp_path} is not a finished run; give a folder that has a result.json.\n"
    assert (result.exit_code, result.stderr) == (2, message)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dataset_digest", "0" * 64, "the run used tiny version "),
        ("dataset_version", "7", "the run used tiny version 7 ("),
        ("noise_digest", "0" * 64, "shuffle-images 0.4 draws noise "),
        ("colour", "red", "was written by another version of ncbench ("),
        ("method", "nobody", "unknown method 'nobody'"),
        ("settings", {"nothing": 1}, "settings of quick: "),
    ],
)
def test_specs_that_cannot_be_run_again(
    field: str, value: object, said: str, run: Path, cli: Callable[..., Result]
) -> None:
    change(run / "spec.json", lambda spec: spec.update({field: value}))
    result = cli("replay", run)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_replay_that_fails(run: Path, cli: Callable[..., Result]) -> None:
    change(run / "spec.json", lambda spec: spec.update(settings={**spec["settings"], "fails": True}))
    result = cli("replay", run)
    assert result.exit_code == 1
    assert result.stderr.startswith("diverged: Diverged(")


def test_ranks_are_those_of_the_record(run: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    assert cli("replay", run, "--out", tmp_path / "again").exit_code == 0
    one, other = (np.load(where / "ranks.npz") for where in (run, tmp_path / "again/tiny/quick" / run.name))
    assert sorted(one.files) == sorted(other.files)
    assert all(np.array_equal(one[name], other[name]) for name in one.files)


@pytest.mark.parametrize("name", ["result.json", "history.jsonl"])
def test_what_cannot_be_compared_is_not_trained(
    name: str, run: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / name).write_text("{")
    monkeypatch.setattr("ncbench.sweeps.execution.run_sweep", lambda *_: pytest.fail("trained"))
    result = cli("replay", run)
    assert result.exit_code == 2
    assert str(run / name) in result.stderr
