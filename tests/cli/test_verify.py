"""`ncbench verify`: valid records pass, and every inconsistency is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from ncbench.evaluation.top_k import Retrieved
from ncbench.records.arrays import load_retrieved, save_retrieved
from ncbench.records.record import Record
from ncbench.records.verification import verify_run

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def run(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return the folder of a recorded run."""
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    return folder


def change(path: Path, how: Change) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def test_sound_records(run: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    for words, said in (((run,), "1 run checked"), ((tmp_path / "runs", run), "1 run checked")):
        result = cli("verify", *words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{said}, 0 with problems\n", "")


def of_earlier_harness(run: Path) -> Path:
    """Make a record one of the first harness, and move it where it belongs."""
    change(run / "spec.json", lambda spec: spec.pop("harness"))
    spec = Record(run).spec
    change(run / "result.json", lambda result: (result["spec"].pop("harness"), result.update(id=spec.id)))
    return run.rename(run.parent / spec.id)


def test_runs_of_an_earlier_harness_pass_and_are_marked(
    run: Path, toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    earlier = of_earlier_harness(run)
    assert toy_run("--method", "quick", "--noise", 0.4, "--evaluations", 2).exit_code == 0  # another run, not that one
    result = cli("verify", tmp_path / "runs")
    said = "2 runs checked, 0 with problems\n1 made by an earlier version of the harness; results differ since\n"
    assert (result.exit_code, result.stdout) == (0, said)
    assert json.loads(cli("verify", tmp_path / "runs", "--json").stdout)["earlier_harness"] == [str(earlier)]
    listed = cli("runs", "--runs", tmp_path / "runs").stdout
    assert [line.split("┃")[-2].strip() for line in listed.splitlines() if line.startswith("┃")] == ["harness"]
    assert sorted(line.split("│")[-2].strip() for line in listed.splitlines() if line.startswith("│")) == ["1", "2"]


@pytest.mark.parametrize(
    "words", [("--backbone", "sgraf"), ("--budget", "1s"), ("--budget", "2own-epochs"), ("--noise", 0)]
)
def test_sound_records_of_every_kind(
    words: tuple[object, ...], toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", 0.2, *words).exit_code == 0
    result = cli("verify", tmp_path / "runs")
    assert (result.exit_code, result.stdout) == (0, "1 run checked, 0 with problems\n")


@pytest.mark.parametrize(
    ("file", "how", "said"),
    [
        ("result.json", lambda r: r.update(id="0" * 12), "the id is 000000000000, but that of its spec is "),
        ("result.json", lambda r: r["spec"].update(seed=7), "the folder of this spec would be tiny/quick/"),
        ("result.json", lambda r: r["spec"].update(seed=7), "spec.json differs from the spec in result.json"),
        ("result.json", lambda r: r["spec"].update(colour="red"), "unknown fields colour"),
        ("result.json", lambda r: r.update(schema=99), "schema 99 is not supported (expected 1)"),
        ("result.json", lambda r: r.update(status="failed"), "the status of a result must be 'done', found 'failed'"),
        ("result.json", lambda r: r["metrics"]["test"].update(rsum=599.0), "test rsum is 599.0, but its ranks give "),
        ("result.json", lambda r: r["metrics"]["test"]["t2i"].update(r5=99.0), "test t2i r5 is 99.0, but its ranks "),
        (
            "result.json",
            lambda r: r["metrics"]["test"].update(rsum=float("nan")),
            "cannot be read as a run record (",
        ),
        ("result.json", lambda r: r["metrics"].update(dev={}), "there are ranks for ['test'] and scores for ['dev', "),
        (
            "result.json",
            lambda r: r["metrics"]["test"]["i2t"].pop("r1"),
            "i2t: object missing required field `r1`",
        ),
        ("result.json", lambda r: r["work"].update(used=10**12), "exceeds the budget of "),
        ("result.json", lambda r: r["work"].update(budget=10**12), "the budget is 1000000000000 FLOPs, but its spec "),
        ("result.json", lambda r: r["work"].update(updates=0), "0 updates did work of "),
        ("result.json", lambda r: r["work"].update(updates=77), "history.jsonl ends with updates of "),
        ("result.json", lambda r: r["work"].pop("budget"), "work: object missing required field `budget`"),
        ("result.json", lambda r: r["selected"].update(dev_rsum=600.0), "vse was selected at dev rSum 600.0, but the "),
        (
            "measurements.json",
            lambda m: m["seconds"].update(training=-1.0),
            "training: expected `float` >= 0.0",
        ),
        ("measurements.json", lambda m: m.pop("seconds"), "object missing required field `seconds`"),
    ],
)
def test_unsound_records(file: str, how: Change, said: str, run: Path, cli: Callable[..., Result]) -> None:
    change(run / file, how)
    result = cli("verify", run)
    assert result.exit_code == 1
    assert said in result.stdout
    assert all(line.startswith(f"{run}: ") for line in result.stdout.splitlines()[:-1])
    assert result.stdout.endswith("1 run checked, 1 with problems\n")


@pytest.mark.parametrize("file", ["ranks.npz", "measurements.json", "spec.json", "history.jsonl"])
def test_files_that_are_missing(file: str, run: Path) -> None:
    (run / file).unlink()
    assert verify_run(run)


def test_noise_that_was_exchanged(run: Path) -> None:
    (kept,) = (run.parents[1] / "noise").glob("*.npy")
    claimed = np.load(kept)
    np.save(kept, claimed[::-1].copy())
    assert any("has digest" in problem for problem in verify_run(run))
    kept.unlink()
    assert verify_run(run)


def test_retrieval_that_was_improved(run: Path) -> None:
    found = load_retrieved(run / "retrieved.npz")
    found.t2i[3] = np.roll(found.t2i[3], 1)  # changes the first image
    found.i2t[5:7] = np.roll(found.i2t[5:7], 1, axis=1)
    save_retrieved(run / "retrieved.npz", found)
    problems = verify_run(run)
    assert problems
    assert all("retrieved.npz contradicts ranks.npz in " in problem for problem in problems)
    save_retrieved(run / "retrieved.npz", Retrieved(found.i2t[:5], found.t2i % 5, found.true % 5))
    assert any("retrieved.npz has 5 i2t queries, ranks.npz has " in problem for problem in verify_run(run))
    (run / "retrieved.npz").unlink()  # as in older records
    assert verify_run(run) == []


def test_ranks_that_were_improved(run: Path) -> None:
    ranks = dict(np.load(run / "ranks.npz"))
    ranks["i2t"][:] = 0
    np.savez(run / "ranks.npz", **ranks)
    assert any(problem.startswith("test i2t r1 is ") for problem in verify_run(run))


def test_a_budget_in_seconds_that_was_not_kept(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4, "--budget", "1s").exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    change(folder / "measurements.json", lambda m: m["seconds"].update(training=3.0))
    assert verify_run(folder) == ["training took 3.0 s of a budget of 1 s"]


def test_as_json(run: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any]) -> None:
    assert strict_json(cli("verify", run, "--json").stdout) == {"runs": 1, "problems": {}, "earlier_harness": []}
    (run / "ranks.npz").unlink()
    result = cli("verify", run, "--json")
    assert result.exit_code == 1
    (problems,) = strict_json(result.stdout)["problems"].values()
    assert len(problems) == 1


def test_nothing_to_verify(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("verify", tmp_path)
    message = f"Error: {tmp_path} is neither a finished run nor a folder of records with one.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_the_folder_one_stands_in(run: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    result = cli("verify", ".")
    assert (result.exit_code, result.stdout) == (0, "1 run checked, 0 with problems\n")


def test_a_history_that_is_damaged(run: Path) -> None:
    (run / "history.jsonl").write_text("{")
    assert any("history.jsonl: cannot be read as a run record" in problem for problem in verify_run(run))


L2RM = ("--method", "l2rm", "--set", "l2rm.batch_size=8", "--set", "l2rm.queue=12", "--set", "l2rm.warmup=0.2")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda r: r["beliefs"]["detection"].update(auc=0.123), "detection auc is 0.123, but beliefs.npz gives "),
        (lambda r: r["beliefs"]["detection"].update(recall=0.123), "detection recall is 0.123, but beliefs.npz gives "),
        (lambda r: r["beliefs"].pop("detection"), "the result has no detection, but beliefs.npz says otherwise"),
        (lambda r: r.update(mismatched=0.123), "the result has 0.123 mismatched pairs, beliefs.npz 0."),
        (lambda r: r.update(told_clean=3), "beliefs.npz has 0 given clean pairs, the result 3"),
        (lambda r: r.update(told_truth=True), "l2rm saw the ground truth, but the method says otherwise"),
    ],
)
def test_beliefs_that_were_improved(how: Change, said: str, toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run(*L2RM, "--noise", 0.4, "--budget", 2).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/l2rm").iterdir()
    assert verify_run(folder) == []
    change(folder / "result.json", how)
    (problem,) = verify_run(folder)
    assert said in problem


def test_a_reference_that_claims_to_be_a_contestant(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    assert toy_run("--method", "oracle", "--set", "oracle.batch_size=8", "--noise", 0.4).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/oracle").iterdir()
    assert verify_run(folder) == []
    change(folder / "result.json", lambda r: r.update(told_truth=False))
    (problem,) = verify_run(folder)
    assert "oracle did not see the ground truth, but the method says otherwise" in problem
