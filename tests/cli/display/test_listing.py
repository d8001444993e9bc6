"""Output of `runs`, `report`, `methods` and `data`, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from printed import body

from ncbench.records.lease import take
from ncbench.records.store import Store

FIGURES = ("rsum.svg", "rsum.png", "training-curves.svg", "training-curves.png")
FILES = ("README.md", "runs.csv", *(f"figures/{name}" for name in FIGURES))


@pytest.fixture
def recorded(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return a records folder with two seeds at two ratios."""
    result = toy_run("--method", "quick", "--noise", "0,0.4", "--seed", "0,1")
    assert result.exit_code == 0, result.output
    return tmp_path / "runs"


def test_runs(recorded: Path, cli: Callable[..., Result]) -> None:
    result = cli("runs", "--runs", recorded)
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(recorded) in result.stdout.splitlines()[0]
    rows = body(result.stdout)
    assert len(rows) == 4
    for row, record in zip(rows, Store(recorded).results(), strict=True):
        spec, measurements = record.spec, record.measurements
        assert row[:4] == [record.result.id, "tiny", "quick", "vse"]
        assert row[4:8] == [spec.protocol, f"{spec.noise:g}", "0.3", str(spec.seed)]
        assert float(row[8]) == pytest.approx(record.result.metrics.test.rsum, abs=0.1)
        assert measurements is not None
        assert float(row[9]) == pytest.approx(measurements.seconds.training, abs=0.06)


def test_runs_as_json(recorded: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any]) -> None:
    result = cli("runs", "--runs", recorded, "--json")
    rows = strict_json(result.stdout)
    results = [record.result for record in Store(recorded).results()]
    assert [row["id"] for row in rows] == [result.id for result in results]
    assert [row["rsum"] for row in rows] == [result.metrics.test.rsum for result in results]
    assert {type(row["seed"]) for row in rows} == {int}
    assert {type(row["noise"]) for row in rows} == {float}


def test_runs_that_are_not_done(
    toy_run: Callable[..., Result],
    cli: Callable[..., Result],
    strict_json: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "runs"
    assert toy_run("--method", "failing", "--noise", "0.4", "--seed", "0,1,2").exit_code == 1
    diverged, killed, running = sorted(folder.glob("tiny/failing/*"))
    (killed / "status.json").unlink()
    with take(running):
        result = cli("runs", "--runs", folder)
        listed = strict_json(cli("runs", "--runs", folder, "--json").stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Unfinished runs in" in result.stdout
    message = "Diverged: the loss is nan at update 1"
    assert [row[-2:] for row in body(result.stdout)] == [["diverged", message], ["interrupted", ""], ["running", ""]]
    assert [row[0] for row in body(result.stdout)] == [diverged.name, killed.name, running.name]
    assert [(row["id"], row["status"], row["error"]) for row in listed] == [
        (diverged.name, "diverged", message),
        (killed.name, "interrupted", ""),
        (running.name, "running", ""),
    ]
    assert toy_run("--method", "quick", "--noise", "0.4").exit_code == 0
    first, *_ = strict_json(cli("runs", "--runs", folder, "--json").stdout)
    assert first["status"] == "done"
    both = cli("runs", "--runs", folder).stdout
    assert both.index("Finished runs in") < both.index("Unfinished runs in")


@pytest.mark.parametrize("content", ["", "[]", '{"status": "sunny", "error": ""}', '{"status": "failed"}'])
def test_a_status_that_says_nothing_is_an_interruption(
    content: str, recorded: Path, cli: Callable[..., Result]
) -> None:
    folder = sorted(recorded.glob("tiny/quick/*"))[0]
    (folder / "result.json").unlink()
    (folder / "status.json").write_text(content)
    assert body(cli("runs", "--runs", recorded).stdout)[-1][-1] == "interrupted"


def forget(folder: Path, measure: Callable[[dict[str, Any]], None]) -> None:
    """Change the measurements of the first run in `folder`."""
    path = sorted(folder.glob("*/*/*/measurements.json"))[0]
    content = json.loads(path.read_text())
    measure(content)
    path.write_text(json.dumps(content))


def test_runs_without_measurements(recorded: Path, cli: Callable[..., Result]) -> None:
    sorted(recorded.glob("*/*/*/measurements.json"))[0].unlink()
    first, second, *_ = body(cli("runs", "--runs", recorded).stdout)
    assert first[9] == "-"
    assert float(second[9]) >= 0


@pytest.mark.parametrize("command", ["runs", "report"])
def test_missing_numbers_are_null_in_json(
    command: str, recorded: Path, cli: Callable[..., Result], strict_json: Callable[[str], Any], tmp_path: Path
) -> None:
    sorted(recorded.glob("*/*/*/measurements.json"))[0].unlink()
    out = ("--out", tmp_path / "pages") if command == "report" else ()
    result = cli(command, "--runs", recorded, *out, "--json")
    assert result.exit_code == 1  # a record without measurements has problems
    content = strict_json(result.stdout)
    if command == "runs":
        assert [row["seconds"] is None for row in content] == [True, False, False, False]


def test_long_runs_are_told_in_plain_numbers(recorded: Path, cli: Callable[..., Result]) -> None:
    forget(recorded, lambda content: content["seconds"].update(training=123456.7))
    first = body(cli("runs", "--runs", recorded).stdout)[0]
    assert "e+" not in first[9]
    assert float(first[9].replace(",", "").rstrip(" s")) == pytest.approx(123456.7, rel=0.01)


def test_report(recorded: Path, cli: Callable[..., Result], tmp_path: Path) -> None:
    pages = tmp_path / "deep" / "pages"
    result = cli("report", "--runs", recorded, "--out", pages)
    assert (result.exit_code, result.stderr) == (0, "")
    written = [pages / "tiny" / name for name in FILES]
    assert sorted(path for path in pages.rglob("*") if path.is_file()) == sorted(written)
    last = result.stdout.splitlines()[-1]
    assert last == f"Leaderboards are in {pages} ({len(FILES)} files). Start with {written[0]}"
    titles = [line.strip() for line in result.stdout.splitlines() if line.startswith("tiny: ")]
    expected = ["tiny: clean pairs, vse, budget 0.3", "tiny: shuffle-images 0.4 (unit: images), vse, budget 0.3"]
    assert titles == expected
    page = written[0].read_text()
    overview = "rSum over noise ratios: shuffle-images (unit: images), vse, budget 0.3"
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [overview, *expected, "How to read the tables"]
    assert " ".join(result.stdout.split()).startswith(overview)
    assert written[2].read_text().startswith("<?xml")
    assert written[3].read_bytes().startswith(b"\x89PNG")
    over_ratios, *tables = body(result.stdout)
    assert (over_ratios[0], len(over_ratios)) == ("quick", 5)
    for clean, row in zip((True, False), tables, strict=True):
        rsums = [r.result.metrics.test.rsum for r in Store(recorded).results() if bool(r.spec.noise) != clean]
        assert row[0] == "quick"
        assert row[8].startswith(f"{sum(rsums) / 2:.1f} ± ")
        assert row[-1] == "2"


def test_report_as_json(
    recorded: Path, cli: Callable[..., Result], tmp_path: Path, strict_json: Callable[[str], Any]
) -> None:
    result = cli("report", "--runs", recorded, "--out", tmp_path / "pages", "--json")
    content = strict_json(result.stdout)
    assert content["written"] == [str(tmp_path / "pages" / "tiny" / name) for name in FILES]
    clean, noisy = content["comparisons"]
    assert (clean["protocol"], clean["unit"], clean["noise"]) == ("clean", "clean", 0.0)
    assert (noisy["dataset"], noisy["backbone"], noisy["allowance"], noisy["noise"]) == ("tiny", "vse", 0.3, 0.4)
    (row,) = noisy["rows"]
    assert (row["variant"], row["seeds"]) == ("quick", 2)
    assert row["rsum_std"] >= 0


def test_report_of_one_seed_is_json_too(
    toy_run: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path, strict_json: Callable[[str], Any]
) -> None:
    assert toy_run("--method", "quick", "--noise", "0.4").exit_code == 0
    result = cli("report", "--runs", tmp_path / "runs", "--out", tmp_path / "pages", "--json")
    ((row,),) = [table["rows"] for table in strict_json(result.stdout)["comparisons"]]
    assert row["rsum_std"] is None  # one seed has no deviation


def test_the_folders_have_defaults(
    recorded: Path, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the parent of `runs`
    assert len(json.loads(cli("runs", "--json").stdout)) == 4
    assert cli("report").exit_code == 0
    assert (tmp_path / "leaderboards" / "tiny" / "README.md").is_file()


def test_methods(toys: None, cli: Callable[..., Result]) -> None:
    rows = body(cli("methods", "list").stdout)
    names = [row[0] for row in rows]
    assert names == sorted(names)
    assert {"failing", "l2rm", "quick", "triplet"} <= set(names)
    assert rows[names.index("quick")][1] == "Learns with settings of its own; fails on request."
    listed = json.loads(cli("methods", "list", "--json").stdout)
    assert [(entry["name"], entry["summary"]) for entry in listed] == [tuple(row) for row in rows]


def test_one_method(toys: None, cli: Callable[..., Result]) -> None:
    result = cli("methods", "show", "quick")
    assert result.exit_code == 0
    assert "Settings of quick (override with --set quick.KEY=VALUE)" in result.stdout
    assert body(result.stdout) == [
        ["batch_size", "8", "", "pairs per update", "here"],
        ["lr", "0.01", "tiny 0.01235", "learning rate", "[red]there[/red]"],
        ["fails", "False", "", "whether the loss becomes NaN", "here"],
    ]


def test_one_method_as_json(toys: None, cli: Callable[..., Result], strict_json: Callable[[str], Any]) -> None:
    content = strict_json(cli("methods", "show", "quick", "--json").stdout)
    assert content["name"] == "quick"
    assert content["settings"][1] == {
        "key": "lr",
        "default": 0.01,
        "presets": {"tiny": 0.0123456},
        "meaning": "learning rate",
        "source": "[red]there[/red]",
    }


@pytest.mark.parametrize("name", ["triplet", "l2rm"])
def test_shipped_methods_describe_themselves(name: str, cli: Callable[..., Result]) -> None:
    shown = json.loads(cli("methods", "show", name, "--json").stdout)
    assert len(shown["about"].splitlines()) > 3
    for entry in shown["settings"]:
        assert entry["meaning"], entry
        assert entry["source"], entry
    printed = cli("methods", "show", name).stdout
    assert printed.startswith(shown["about"])
    assert {entry["key"] for entry in shown["settings"]} <= {row[0] for row in body(printed)}


def test_datasets(toys: None, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    rows = {row[0]: row[1:] for row in body(cli("data", "list").stdout)}
    assert set(rows) == {"cc152k", "coco", "f30k", "scenes", "scenes-large", "scenes-vectors", "tiny"}
    assert rows["tiny"] == ["-", "made for [bold]tests[/bold]"]
    assert rows["f30k"][0] == "--data-root"
    listed = {entry["name"]: entry for entry in json.loads(cli("data", "list", "--json").stdout)}
    assert set(listed) == set(rows)
    assert listed["f30k"]["needs_root"] is True
    assert listed["tiny"] == {"name": "tiny", "summary": "made for [bold]tests[/bold]", "needs_root": False}
