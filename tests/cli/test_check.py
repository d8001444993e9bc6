"""`ncbench methods check`: its output and exit code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import broken_methods
import pytest
from click.testing import Result

from ncbench.checks.method.suite import CHECKS

FEW = [check for check in CHECKS if check.name in ("trains", "state", "pair-scores", "metered")]
"""Fast checks."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run only fast checks."""
    monkeypatch.setattr("ncbench.checks.method.suite.CHECKS", FEW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with a broken method."""
    path = tmp_path / "over_sure.py"
    text = inspect.getsource(broken_methods)
    path.write_text(text[: text.index("class Silent")] + inspect.getsource(broken_methods.OverSure))
    path.write_text(path.read_text().replace("class OverSure(Sound):", 'class OverSure(Sound):\n    name = "over"'))
    path.write_text(path.read_text().replace('    name = "sound"\n', ""))
    return path


def test_a_method_that_passes(few: None, cli: Callable[..., Result]) -> None:
    result = cli("methods", "check", "triplet")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.startswith("Checks of method triplet")
    assert "│ trains      │ pass    │ 1 network" in result.stdout
    assert "│ pair-scores │ skipped │ it has no beliefs: " in result.stdout
    assert result.stdout.endswith("\n3 passed, 0 failed, 1 skipped\n")


def test_a_file_that_fails(few: None, cli: Callable[..., Result], file: Path) -> None:
    result = cli("methods", "check", file)
    assert result.exit_code == 1
    assert result.stdout.startswith("Checks of method over ")
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("│ pair-scores │")]
    assert "│ fail " in row
    assert "[0, 1], found 1.2" in row
    *_, must, remedy, counts = result.stdout.splitlines()
    assert must.startswith("pair-scores failed. Requirement: pair_scores and soft_labels are ")
    assert remedy.startswith("  Fix: return float64 arrays with one entry per training pair, ")
    assert counts == "3 passed, 1 failed, 0 skipped"
    told = cli("methods", "check", file, "--json")
    assert told.exit_code == 1
    content = json.loads(told.stdout)
    assert (content["subject"], content["failed"]) == ("Checks of method over", 1)
    assert [verdict["check"] for verdict in content["verdicts"]] == [check.name for check in FEW]
    assert set(content["verdicts"][0]) == {"check", "outcome", "detail", "proves", "remedy", "seconds"}


@pytest.mark.parametrize("words", [("triplet", "--json"), ("--json", "triplet"), ("triplet", "--json", "-")])
def test_json(words: tuple[str, ...], few: None, cli: Callable[..., Result]) -> None:
    assert json.loads(cli("methods", "check", *words).stdout)["failed"] == 0


@pytest.mark.parametrize(("command", "name"), [("methods", "triplet"), ("noise", "shuffle-images"), ("data", "scenes")])
def test_json_takes_no_file_name(command: str, name: str, cli: Callable[..., Result]) -> None:
    result = cli(command, "check", name, "--json", "v.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: --json takes no file name; it prints JSON to standard output. To keep it ")
    assert result.stderr.endswith(f"{command} check ... --json > v.json\n")


def test_settings_and_networks(few: None, cli: Callable[..., Result]) -> None:
    words = ("--set", "ncr.batch_size=16", "--set", "backbone.embed=8", "--backbone", "saf")
    result = cli("methods", "check", "ncr", *words)
    assert (result.exit_code, "2 networks" in result.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tripled",), "unknown method 'tripled'. Did you mean 'triplet'?"),
        (("no/such.py",), "method file no/such.py: file not found."),
        (("triplet", "--set", "ncr.lr=1"), "unknown --set target 'ncr'. Known: backbone, triplet."),
        (("triplet", "--set", "lr=1"), "--set 'lr=1' is not of the form method.key=value, did you mean triplet.lr=1?"),
        (("triplet", "--set", "triplet.lr=0"), "settings of triplet: lr must be above 0, found 0.0."),
        (("triplet", "--set", "backbone.embed=0"), "--set backbone.embed=0: must be above 0."),
        (("triplet", "--backbone", "sgraf"), "--backbone sgraf: checks need a single network; choose sgr or saf."),
        (("triplet", "--backbone", "vze"), "unknown backbone 'vze'. Did you mean 'vse'?"),
        (("mscn", "--backbone", "scan"), "mscn cannot train scan-t2i-lse"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str, cli: Callable[..., Result]) -> None:
    result = cli("methods", "check", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
