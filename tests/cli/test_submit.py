"""`ncbench submit`, `verify FILE` and `unpack`: round trips, and rejected submissions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from made_records import DEFAULTS

import ncbench_methods.triplet as triplet
from ncbench import UserError
from ncbench.cli import main
from ncbench.method.registry import load_method, settings_of
from ncbench.records import submission
from ncbench.records.arrays import load_ranks, save_ranks
from ncbench.records.claims import Claims
from ncbench.records.spec import RunSpec
from ncbench.records.submission import read_submission, unpack
from ncbench.records.table import load_runs

Cli = Callable[..., Result]
submit_command = import_module("ncbench.cli.submit")  # ncbench.cli has the command under this name
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
    words = ("--name", "ours", "--contact", "Ada <ada@example.org>", "--about", "by us <b>", "--out", path.parent)
    result = cli("submit", runs, *words)
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
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\n2 runs checked, 0 with problems\n")
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
    found = load_runs(tmp_path / "again")
    assert set(found["submission"]) == {"ours"}
    where = ["folder", "submission"]
    assert found.drop(columns=where).equals(load_runs(runs).drop(columns=where))
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
    change(folder / "result.json", lambda result: result["metrics"].update(scores))
    assert cli("submit", folder, "--name", "x", "--contact", "c", "--out", tmp_path).exit_code == 0
    assert cli("verify", tmp_path / "x.json").stdout.endswith("\n1 run checked, 0 with problems\n")
    (again,) = unpack(tmp_path / "x.json", tmp_path / "again")
    found = load_ranks(again / "ranks.npz")
    assert [len(fold) for fold in found["test"].i2t] == [4, 4]


def test_one_run_twice_is_one(submitted: Path, runs: Path, cli: Cli, tmp_path: Path) -> None:
    (folder,) = {path.parent for path in (runs / "tiny" / "quick").glob("*/result.json")} - {
        sorted((runs / "tiny" / "quick").glob("*/"))[0]
    }
    result = cli("submit", folder, folder, "--name", "one", "--contact", "c", "--out", tmp_path, "--json")
    assert json.loads(result.stdout) == {"written": str(tmp_path / "one.json"), "runs": 1}


def test_what_does_not_hold_is_not_submitted(runs: Path, cli: Cli, tmp_path: Path) -> None:
    path = next(runs.glob("*/*/*/result.json"))
    change(path, lambda result: result["metrics"]["test"].update(rsum=599.0))
    result = cli("submit", runs, "--name", "x", "--contact", "c", "--out", tmp_path)
    refused(result, f"{path.parent}: test rsum is 599.0, but its ranks give ")
    assert "only records that `ncbench verify` passes can be submitted" in result.stderr
    assert not (tmp_path / "x.json").exists()


def test_nothing_is_written_over(submitted: Path, runs: Path, cli: Cli) -> None:
    before = submitted.read_bytes()
    words = ("submit", runs, "--name", "ours", "--contact", "c", "--out", submitted.parent)
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
    *_, first, last = result.stdout.splitlines()
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


def test_what_a_submission_claims(submitted: Path, cli: Cli, strict_json: Callable[[str], Any], tmp_path: Path) -> None:
    noisy = lambda run: run["result"]["spec"]["noise"] > 0  # noqa: E731
    change(submitted, lambda content: content.update(runs=[run for run in content["runs"] if noisy(run)]))
    lines = [line.strip() for line in cli("verify", submitted).stdout.splitlines()]
    assert lines[:3] == [f"{submitted}: submission ours", "contact: Ada <ada@example.org>", "about: by us <b>"]
    assert lines[3:6] == ["dataset: tiny", "noise: shuffle-images 0.4", "method: quick"]
    assert lines[6:9] == ["backbone: vse", "budget: 0.3", "seed: 0"]
    assert lines[9] == "missing runs: none"
    assert lines[10] == "settings that differ from presets: none"
    assert lines[11:] == ["methods from files: none", "1 run checked, 0 with problems"]
    found = strict_json(cli("verify", submitted, "--json").stdout)["submissions"][str(submitted)]
    assert (found["contact"], found["grid"]["seed"], found["missing"]) == ("Ada <ada@example.org>", ["0"], [])


def test_gaps_and_settings() -> None:
    spec = RunSpec.from_dict({**DEFAULTS, "dataset": "scenes", "settings": settings_of(load_method("rce"), "scenes")})
    spec = replace(spec, method="rce")
    other = replace(spec, seed=1, noise=0.2, settings={**spec.settings, "batch_size": 7})
    claims = Claims.of([spec, other, replace(spec, method="mine", source="0123456789ab")], {})
    assert claims.grid["seed"] == ["0", "1"]
    assert "scenes shuffle-images 0.2 rce sgr 4 seed 0" in claims.missing
    assert len(claims.missing) == 2 * 2 * 2 - 3
    (text,) = claims.settings
    assert text.startswith("rce on scenes: batch_size=7 (preset ")
    assert claims.files == ["mine (digest 0123456789ab, not bundled)"]


def test_control_characters_do_not_reach_the_terminal(submitted: Path, cli: Cli) -> None:
    change(submitted, lambda content: content.update(about="a\x1b[2Jb\nc", contact=""))
    result = cli("verify", submitted)
    assert "about: a [2Jb c\n" in result.stdout
    assert "contact: none given\n" in result.stdout


def test_who_submits(runs: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_command, "git_identity", lambda: "")
    refused(cli("submit", runs, "--out", tmp_path), "a submission needs a name; give it with --name")
    refused(
        cli("submit", runs, "--name", "x", "--out", tmp_path), "a submission needs a contact; give it with --contact"
    )
    refused(cli("submit", runs, "--name", "x", "--contact", " ", "--out", tmp_path), "--contact is empty")
    assert not (tmp_path / "x.json").exists()
    monkeypatch.setattr(submit_command, "git_identity", lambda: "Ada <ada@example.org>")
    assert cli("submit", runs, "--name", "x", "--out", tmp_path).exit_code == 0
    assert read_submission(tmp_path / "x.json").contact == "Ada <ada@example.org>"
    monkeypatch.setattr(submit_command, "_on_terminal", lambda: True)
    asked = CliRunner().invoke(main, ["submit", str(runs), "--out", str(tmp_path)], input="y\nGrace\n")
    assert (asked.exit_code, read_submission(tmp_path / "y.json").contact) == (0, "Grace")


def test_submissions_of_older_versions(submitted: Path, cli: Cli) -> None:
    change(submitted, lambda content: content.pop("contact"))
    result = cli("verify", submitted)
    assert result.exit_code == 0
    assert "contact: none given" in result.stdout


@pytest.fixture
def from_file(toy_run: Cli, tmp_path: Path) -> Path:
    """Return a file that defines a method, of which tmp_path/runs has a run."""
    path = tmp_path / "elsewhere" / "mine.py"
    path.parent.mkdir()
    text = Path(triplet.__file__).read_text().replace('name = "triplet"', 'name = "mine"')
    path.write_text(text)
    words = ("--method", path, "--set", "mine.batch_size=8", "--noise", 0.4)
    result = toy_run(*words)
    assert result.exit_code == 0, result.stderr
    return path


def test_methods_from_files_are_bundled_and_not_run(from_file: Path, cli: Cli, tmp_path: Path) -> None:
    words = ("submit", tmp_path / "runs", "--name", "m", "--contact", "c", "--out", tmp_path)
    refused(cli(*words), "give the unchanged file with --method-file FILE")
    assert cli(*words, "--method-file", from_file).exit_code == 0
    (source,) = read_submission(tmp_path / "m.json").methods.values()
    assert (source.name, source.text) == ("mine", from_file.read_text())
    result = cli("verify", tmp_path / "m.json")
    assert "methods from files: mine (digest " in result.stdout
    assert "bundled, not run)" in result.stdout
    # replayed only with the file, or the flag
    result = cli("verify", tmp_path / "m.json", "--replay", 1)
    assert result.exit_code == 1
    assert "Name the file that defines it: --method-file FILE" in result.stdout
    for allowed in (("--method-file", from_file), ("--run-bundled",)):
        result = cli("verify", tmp_path / "m.json", "--replay", 3, "--device", "cpu", *allowed)
        assert (result.exit_code, "identical: " in result.stdout) == (0, True), result.output
    refused(cli("verify", tmp_path / "m.json", "--run-bundled"), "go with --replay N")
    # unpacked
    result = cli("unpack", tmp_path / "m.json", "--out", tmp_path / "u")
    (copy,) = (tmp_path / "u").glob("tiny/mine/*/method.py")
    assert f"read them first, such as {copy}" in result.stdout
    assert copy.read_text() == from_file.read_text()
    for command in (("audit", copy.parent), ("eval", "--dataset", "tiny", "--checkpoint", copy.parent)):
        refused(cli(*command), f"run it again with: ncbench replay {copy.parent} --method-file {copy} --out DIR")
    again = tmp_path / "again"
    assert cli("replay", copy.parent, "--method-file", copy, "--device", "cpu", "--out", again).exit_code == 0
    assert cli("verify", again).exit_code == 0
    # another file than the one that ran
    trap = tmp_path / "trap"
    copy.write_text(f"open({str(trap)!r}, 'w')")
    result = cli("verify", copy.parent)
    assert (result.exit_code, trap.exists()) == (1, False)
    assert "method.py is not the file that defined the method, of which the spec has digest " in result.stdout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("print('other')", "has digest "), ("#" * 2**21, "is larger than 1 MiB")],
)
def test_sources_that_do_not_fit(text: str, complaint: str, from_file: Path, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    words = ("--name", "m", "--contact", "c", "--out", tmp_path, "--method-file", from_file)
    assert cli("submit", tmp_path / "runs", *words).exit_code == 0
    change(path, lambda content: next(iter(content["methods"].values())).update(text=text))
    refused(cli("verify", path), complaint)
    refused(cli("unpack", path, "--out", tmp_path / "u"), complaint)
    assert not (tmp_path / "u").exists()


def test_one_bad_submission_does_not_stop_the_others(submitted: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    result = cli("verify", tmp_path / "bad.json", submitted, tmp_path / "absent")
    assert result.exit_code == 2
    assert result.stdout.endswith("2 runs checked, 0 with problems\n")
    assert "bad.json: cannot be read as a submission" in result.stderr
    assert "absent is neither a finished run" in result.stderr


def test_large_parts_are_refused_before_they_are_decoded(submitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, complaint in (
        ("MAX_OBJECTS", 3, "it has more than 3 objects"),
        ("MAX_PART_BYTES", 10, r"runs\[0\]\.result: it is larger than"),
        ("MAX_RANKS_BYTES", 10, r"runs\[0\]\.ranks: it is larger than"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(submission, name, value)
            with pytest.raises(UserError, match=complaint):
                submission.specs_of(submitted, read_submission(submitted))


def test_report_ranks_runs_beside_a_submission(
    submitted: Path, toy_run: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    words = ("--method", "quick", "--noise", "0.2,0.4", "--out", tmp_path / "mine")
    assert toy_run(*words).exit_code == 0
    for attempt in ("first", "again"):  # unpacked once
        pages = tmp_path / attempt
        result = cli("report", "--runs", tmp_path / "mine", "--with", submitted, "--out", pages, "--html")
        assert (result.exit_code, result.stderr) == (0, "")
        with (pages / "tiny" / "runs.csv").open() as file:
            rows = {float(row["noise"]): row["submission"] for row in csv.DictReader(file)}
        assert rows == {0.0: "ours", 0.2: "", 0.4: ""}
        assert "\n3 runs: 1 from submission ours.\n" in (pages / "tiny" / "README.md").read_text()
        assert '<p class="provenance">3 runs: 1 from submission ours, ' in (pages / "index.html").read_text()
    assert len(list((tmp_path / "cache" / "submissions").iterdir())) == 1


def test_report_of_submissions_alone(submitted: Path, cli: Cli, tmp_path: Path) -> None:
    printed = cli("report", "--runs", tmp_path / "none", "--with", submitted, "--format", "csv")
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout.count("quick") == 2
    result = cli("report", "--runs", tmp_path / "none", "--with", submitted, "--json", "--out", tmp_path / "pages")
    assert len(json.loads(result.stdout)["comparisons"]) == 2


def test_report_with_another_folder_of_records(runs: Path, cli: Cli, tmp_path: Path) -> None:
    result = cli("report", "--runs", tmp_path / "none", "--with", runs, "--format", "latex")
    assert (result.exit_code, result.stderr) == (0, "")
    command = f"ncbench report --runs {tmp_path / 'none'} --with {runs} --format latex"
    assert command in result.stdout.replace("\\_", "_")


def test_report_with_what_is_no_submission(runs: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    refused(
        cli("report", "--runs", runs, "--with", tmp_path / "notes.txt", "--out", tmp_path / "pages"),
        "notes.txt: cannot be read as a submission",
    )
    assert not (tmp_path / "pages").exists()


def test_report_names_a_submission_that_was_changed(submitted: Path, cli: Cli, tmp_path: Path) -> None:
    def better(content: Any) -> None:
        content["runs"][0]["result"]["metrics"]["test"]["i2t"]["r1"] = 99.0

    change(submitted, better)
    result = cli("report", "--runs", tmp_path / "none", "--with", submitted, "--out", tmp_path / "pages")
    assert result.exit_code == 1
    assert "i2t" in result.stderr
