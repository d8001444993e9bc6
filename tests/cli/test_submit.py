"""`ncbench submit`, `verify FILE` and `unpack`: round trips, and rejected submissions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from ncbench import UserError
from ncbench.records import submission
from ncbench.records.arrays import load_ranks, save_ranks
from ncbench.records.submission import read_submission, unpack
from ncbench.records.table import load_runs

Cli = Callable[..., Result]
NAMES = ("spec.json", "result.json", "measurements.json")


@pytest.fixture
def runs(toy_run: Cli, tmp_path: Path) -> Path:
    """Return a folder with two runs."""
    assert toy_run("--method", "quick", "--noise", "0,0.4").exit_code == 0
    return tmp_path / "runs"


@pytest.fixture
def submitted(runs: Path, cli: Cli, tmp_path: Path) -> Path:
    """Return a submission of both runs."""
    path = tmp_path / "submissions" / "ours.json"
    result = cli("submit", runs, "--name", "ours", "--about", "by us <b>", "--out", path.parent)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"wrote {path} (2 runs); check it with: ncbench verify {path}\n"
    return path


def change(path: Path, how: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def refused(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_there_and_back(submitted: Path, runs: Path, cli: Cli, tmp_path: Path) -> None:
    result = cli("verify", submitted)
    assert (result.exit_code, result.stdout) == (0, "2 runs checked, 0 with problems\n")
    result = cli("unpack", submitted, "--out", tmp_path / "again")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"wrote 2 runs to {tmp_path / 'again'}; 0 already existed\n"
    for folder in runs.glob("*/*/*/"):
        if folder.parent.name == "noise" or not (folder / "result.json").is_file():
            continue
        again = tmp_path / "again" / folder.relative_to(runs)
        for name in NAMES:
            assert (again / name).read_bytes() == (folder / name).read_bytes()
        assert [json.loads(x) for x in (again / "history.jsonl").read_text().splitlines()] == [
            json.loads(x) for x in (folder / "history.jsonl").read_text().splitlines()
        ]
        for name, ranks in load_ranks(folder / "ranks.npz").items():
            for side in ("i2t", "t2i"):
                np.testing.assert_array_equal(
                    getattr(load_ranks(again / "ranks.npz")[name], side), getattr(ranks, side)
                )
        assert json.loads((again / "origin.json").read_text())["submission"] == "ours"
    assert load_runs(tmp_path / "again").drop(columns="folder").equals(load_runs(runs).drop(columns="folder"))
    assert cli("verify", tmp_path / "again").stdout == "2 runs checked, 0 with problems\n"
    result = cli("unpack", submitted, "--out", tmp_path / "again", "--json")
    assert json.loads(result.stdout) == {"written": []}


def test_runs_with_folds(toy_run: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    whole = load_ranks(folder / "ranks.npz")["test"]
    halves = type(whole)(*(tuple(np.array_split(side[0] // 2, 2)) for side in (whole.i2t, whole.t2i)))
    save_ranks(folder / "ranks.npz", whole, halves)
    scores = {"test": halves.retrieval().to_dict(), "test_unfolded": whole.retrieval().to_dict()}
    change(folder / "result.json", lambda result: result.update(metrics=scores))
    assert cli("submit", folder, "--name", "x", "--out", tmp_path).exit_code == 0
    assert cli("verify", tmp_path / "x.json").stdout == "1 run checked, 0 with problems\n"
    (again,) = unpack(tmp_path / "x.json", tmp_path / "again")
    found = load_ranks(again / "ranks.npz")
    assert [len(fold) for fold in found["test"].i2t] == [4, 4]


def test_one_run_twice_is_one(submitted: Path, runs: Path, cli: Cli, tmp_path: Path) -> None:
    (folder,) = {path.parent for path in (runs / "tiny" / "quick").glob("*/result.json")} - {
        sorted((runs / "tiny" / "quick").glob("*/"))[0]
    }
    result = cli("submit", folder, folder, "--name", "one", "--out", tmp_path, "--json")
    assert json.loads(result.stdout) == {"written": str(tmp_path / "one.json"), "runs": 1}


def test_what_does_not_hold_is_not_submitted(runs: Path, cli: Cli, tmp_path: Path) -> None:
    path = next(runs.glob("*/*/*/result.json"))
    change(path, lambda result: result["metrics"]["test"].update(rsum=599.0))
    result = cli("submit", runs, "--name", "x", "--out", tmp_path)
    refused(result, f"{path.parent}: test rsum is 599.0, but its ranks give ")
    assert "only records that `ncbench verify` passes can be submitted" in result.stderr
    assert not (tmp_path / "x.json").exists()


def test_nothing_is_written_over(submitted: Path, runs: Path, cli: Cli) -> None:
    before = submitted.read_bytes()
    words = ("submit", runs, "--name", "ours", "--out", submitted.parent)
    refused(cli(*words), f"{submitted} already exists; choose another --name, or overwrite it with --force.")
    assert submitted.read_bytes() == before
    assert cli(*words, "--force").exit_code == 0
    assert submitted.read_bytes() != before  # without --about


@pytest.mark.parametrize("name", ["", "../x", "a b", "<script>"])
def test_invalid_names(name: str, runs: Path, cli: Cli, tmp_path: Path) -> None:
    refused(cli("submit", runs, "--name", name, "--out", tmp_path), "use letters, digits, '.', '_' and '-'")


def test_scores_that_were_improved(submitted: Path, cli: Cli) -> None:
    change(submitted, lambda content: content["runs"][0]["result"]["metrics"]["test"].update(rsum=599.0))
    result = cli("verify", submitted)
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first.startswith(f"{submitted}, tiny/quick/")
    assert "test rsum is 599.0, but its ranks give " in first
    assert last == "2 runs checked, 1 with problems"


def spec_of(content: Any) -> dict[str, Any]:
    found: dict[str, Any] = content["runs"][0]["result"]["spec"]
    return found


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (lambda c: c.update(schema=2), "schema 2 is not supported, expected 1"),
        (lambda c: c.pop("about"), "object missing required field `about`"),
        (lambda c: c.update(runs=[]), "runs: expected `array` of length >= 1"),
        (lambda c: c["runs"].append(1), "runs[2]: expected `object`, got `int`"),
        (lambda c: c["runs"][1].pop("ranks"), "runs[1]: object missing required field `ranks`"),
        (lambda c: c.update(name="../x"), "submission '../x': use letters"),
        (
            lambda c: spec_of(c).update(dataset="../x"),
            "run 0 is not a record (spec.dataset: '../x' is not a valid name)",
        ),
        (lambda c: spec_of(c).update(method="a/b"), "spec.method: 'a/b' is not a valid name"),
        (lambda c: spec_of(c).update(colour="red"), "run 0 is not a record (spec.unknown fields colour)"),
        (lambda c: spec_of(c).update(seed=7), ", but that of its spec is "),
        (lambda c: c["runs"][0].update(history={}), "runs[0].history: expected `array`, got `object`"),
        (lambda c: c["runs"][0].update(measurements=[]), "runs[0].measurements: expected `object`, got `array`"),
        (lambda c: c["runs"][0].update(ranks={}), "runs[0].ranks: object missing required field `test`"),
        (
            lambda c: c["runs"][0]["ranks"]["test"].update(i2t=[[-1]]),
            "i2t[0][0]: expected `int` >= 0",
        ),
        (lambda c: c["runs"][0]["ranks"]["test"].update(i2t=[[[1]]]), "i2t[0][0]: expected `int`, got `array`"),
        (lambda c: c["runs"][0]["ranks"]["test"].update(i2t=[["x"]]), "i2t[0][0]: expected `int`, got `str`"),
        (lambda c: c["runs"][0]["ranks"]["test"].update(i2t=[[2**70]]), "i2t[0][0]: expected `int` <= 2147483647"),
        (lambda c: c["runs"][0]["ranks"]["test"].pop("t2i"), "ranks.test: object missing required field `t2i`"),
    ],
)
def test_invalid_submissions(how: Callable[[Any], object], complaint: str, submitted: Path, cli: Cli) -> None:
    change(submitted, how)
    for command in ("verify", "unpack"):
        refused(cli(command, submitted), complaint)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": NaN}', "[" * 100_000, '{"schema": 1, "name": "a", "about": "", "runs": [Infinity]}'],
)
def test_invalid_files(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(
        UserError, match=r"x.json: cannot be read as a submission \(.*\); write one with: ncbench submit"
    ):
        read_submission(tmp_path / "x.json")


def test_files_that_are_too_large(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "MAX_BYTES", 2**20)
    read_submission(submitted)
    monkeypatch.setattr(submission, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="larger than 0 MiB"):
        read_submission(submitted)


def test_no_file(cli: Cli, tmp_path: Path) -> None:
    refused(cli("unpack", tmp_path / "x.json"), "cannot be read as a submission")
