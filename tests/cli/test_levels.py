"""Commands accept a folder of records at any level: all of it, a dataset, a method or a single run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ncbench.records.locate import find_run, whole_root
from ncbench.records.store import Store

LEVELS = {"root": ".", "dataset": "tiny", "method": "tiny/quick", "run": "tiny/quick/ID"}


@pytest.fixture
def recorded(toy_run: Callable[..., Result], tmp_path: Path) -> Path:
    """Return a folder with two runs of one method and one of another."""
    small = ("--set", "triplet.batch_size=8", "--launcher", "here")
    assert toy_run("--method", "quick", "--noise", "0.2,0.4", *small[2:]).exit_code == 0
    assert toy_run("--method", "triplet", "--noise", 0.4, *small).exit_code == 0
    return tmp_path / "runs"


def test_every_command_accepts_every_level(
    recorded: Path, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncbench.report.write_report", lambda *_, **__: [tmp_path / "README.md"])
    ids = {level: sorted(path.parent.name for path in (recorded / place).rglob("result.json"))
           for level, place in LEVELS.items() if level != "run"}  # fmt: skip
    run = ids["method"][0]
    assert [len(found) for found in ids.values()] == [3, 3, 2]
    for level, place in LEVELS.items():
        folder, expected = recorded / place.replace("ID", run), ids.get(level, [run])
        for command in ("runs", "report"):
            result = cli(command, "--runs", folder, "--json", *(() if command == "runs" else ("--out", tmp_path)))
            assert result.exit_code == 0, result.output
            content = json.loads(result.stdout)
            if command == "runs":
                assert sorted(row["id"] for row in content) == expected
            else:
                assert sum(row["seeds"] for table in content["comparisons"] for row in table["rows"]) == len(expected)
        assert json.loads(cli("verify", folder, "--json").stdout)["runs"] == len(expected)
        bundled = cli("submit", folder, "--name", level, "--contact", "Ada", "--out", tmp_path, "--json")
        assert json.loads(bundled.stdout)["runs"] == len(expected), bundled.output
        assert cli("show", run, "--runs", folder).stdout.startswith(f"{run}: quick with vse on tiny, ")
        watched = json.loads(cli("runs", "--runs", folder, "--watch", "--json").stdout)
        assert [row["method"] for row in watched] == ["triplet"]  # the latest sweep


def test_show_takes_a_folder_with_one_run(recorded: Path, cli: Callable[..., Result]) -> None:
    (only,) = (recorded / "tiny" / "triplet").iterdir()
    assert cli("show", only.parent).stdout.startswith(f"{only.name}: triplet with ")
    first, second = sorted(path.name for path in (recorded / "tiny" / "quick").iterdir())
    result = cli("show", recorded / "tiny" / "quick")
    assert result.exit_code == 2
    expected = f"{recorded}/tiny/quick has 2 runs; expected the id of one: {first}, {second}."
    assert result.stderr == f"Error: {expected}\n"


def test_messages_name_a_few_runs(cli: Callable[..., Result], tmp_path: Path) -> None:
    for number in range(12):
        folder = tmp_path / "toy" / "quick" / f"{number:012x}"
        folder.mkdir(parents=True)
        (folder / "spec.json").touch()
    stderr = cli("show", tmp_path).stderr
    assert "has 12 runs; " in stderr
    assert stderr.endswith("000000000007 and 4 more.\n")


def test_a_run_is_found_from_within(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(Store(recorded).folders())
    monkeypatch.chdir(folder.parent)
    assert find_run(folder.name, Path("runs")).spec.id == folder.name
    assert whole_root(Path()) == whole_root(Path(folder.name)) == recorded.resolve()
    assert whole_root(recorded) == recorded
    monkeypatch.chdir(folder)
    assert [record.spec.id for record in Store(Path()).results()] == [folder.name]


def test_a_folder_that_may_not_be_entered_is_no_run(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the folders of methods would count as runs, and every run would be missed in silence."""
    import os

    stat, closed = os.stat, recorded / "tiny" / "quick"

    def refuse(path: object, *words: object, **options: object) -> os.stat_result:
        if str(path).startswith(f"{closed}/") and Path(str(path)).parent == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    assert len(list(Store(recorded).folders())) == 3
