"""Sweep files: their keys, precedence of command-line options, and the sweep file of a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench.cli import main
from ncbench.cli.options import config
from ncbench.runtime.files import read_toml
from ncbench.sweeps.record import find_sweep

SWEEP = """
method = ["quick"]
dataset = "tiny"
backbone = ["vse"]
noise = [0.2, 0.4]
budget = [0.3]
seed = [3]
device = "cpu"
jobs = 1
set.quick = {batch_size = 4, fails = false}
"""


OLDER = {"method": "methods", "dataset": "datasets", "backbone": "backbones", "noise": "ratios"}
OLDER |= {"budget": "budgets", "seed": "seeds", "set.": "overrides."}


@pytest.fixture
def run_file(toys: None, cli: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs a sweep file with this text and further arguments, with records in tmp_path/runs."""

    def call(text: str, *words: object) -> Result:
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return cli("run", "--config", path, "--out", tmp_path / "runs", *words)

    return call


def specs(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [outcome["result"]["spec"] for outcome in json.loads(result.stdout)]


def test_a_file_says_what_options_would(run_file: Callable[..., Result]) -> None:
    found = specs(run_file(SWEEP, "--json"))
    assert [(s["noise"], s["seed"], s["budget"], s["backbone"]) for s in found] == [
        (0.2, 3, 0.3, "vse"),
        (0.4, 3, 0.3, "vse"),
    ]
    assert found[0]["settings"] == {"batch_size": 4, "lr": 0.0123456, "fails": False}


def test_options_override_the_file(run_file: Callable[..., Result]) -> None:
    words = ("--noise", 0.6, "--seed", "0", "--set", "quick.batch_size=2", "--set", "quick.lr=0.5")
    (found,) = specs(run_file(SWEEP, *words, "--json"))
    assert (found["noise"], found["seed"]) == (0.6, 0)
    assert found["settings"] == {"batch_size": 2, "lr": 0.5, "fails": False}  # only the given overrides change


def test_changes_as_texts(run_file: Callable[..., Result]) -> None:
    text = SWEEP.replace("set.quick = {batch_size = 4, fails = false}", 'set = ["quick.lr=0.5"]')
    found = specs(run_file(text + 'variant = ["quick.lr=0.25"]\nevaluations = 2\n', "--noise", 0.2, "--json"))
    assert [(spec["settings"]["lr"], spec["evaluations"]) for spec in found] == [(0.5, 2), (0.25, 2)]


def test_older_files_have_other_names(run_file: Callable[..., Result], tmp_path: Path) -> None:
    older = SWEEP
    for new, old in OLDER.items():
        older = older.replace(f"\n{new}", f"\n{old}")
    assert "methods = " in older
    more = 'variants = ["quick.lr=0.25"]\ncheckpoint_every = 5\n'
    newer = more.replace("variants", "variant").replace("_every", "-every")
    found = specs(run_file(older + more, "--json"))
    assert found == specs(run_file(SWEEP + newer, "--json"))
    assert read_toml(find_sweep(tmp_path / "runs").folder / "sweep.toml", "it")["checkpoint-every"] == 5.0


def test_keys_are_the_names_of_options() -> None:
    options = {name.removeprefix("--") for option in main.commands["run"].params for name in option.opts}
    assert set(config.KEYS) < options
    assert options - set(config.KEYS) == {"assume", "config", "dry-run", "json", "quiet", "verbose", "debug"}


def test_what_is_kept_stands_for_the_same_sweep(
    run_file: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = run_file(SWEEP + 'variant = ["quick.batch_size=8"]\n', "--noise", "0.2", "--json")
    record = find_sweep(tmp_path / "runs")
    assert [spec.id for spec in record.specs()] == [outcome["result"]["id"] for outcome in json.loads(result.stdout)]
    kept = record.folder / "sweep.toml"
    content = read_toml(kept, "it")
    assert (content["method"], content["noise"], content["budget"]) == (["quick"], [0.2], ["0.3"])
    assert (content["set"], content["launcher"]) == (["quick.batch_size=4", "quick.fails=false"], "processes")
    again = cli("run", "--config", kept, "--json")
    assert [outcome["status"] for outcome in json.loads(again.stdout)] == ["kept", "kept"]
    assert read_toml(kept, "it") == content
    assert find_sweep(tmp_path / "runs") == record


@pytest.mark.parametrize("budget", ["0.1", "2e12flops", "90s", "3own-epochs", "0.30000000000000004"])
def test_budgets_are_kept_to_the_last_digit(budget: str, run_file: Callable[..., Result], tmp_path: Path) -> None:
    from ncbench.budget import Budget

    run_file(SWEEP, "--budget", budget, "--noise", 0.2, "--dry-run")
    assert not (tmp_path / "runs").exists()
    assert Budget.parse(Budget.parse(budget).text) == Budget.parse(budget)


def test_slurm_in_a_file_is_for_slurm(run_file: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def make_launcher(name: str, options: dict[str, object]) -> Any:
        seen.append((name, options))
        raise ZeroDivisionError

    monkeypatch.setattr("ncbench.sweeps.launchers.make_launcher", make_launcher)
    text = SWEEP + '[slurm]\npartition = "gpu"\ngpus = 1\nsetup = ["x"]\nsbatch.licenses = "y"\n'
    run_file(text, "--launcher", "slurm", "--slurm", "partition=big")
    run_file(text)
    options = {"partition": "big", "gpus": 1, "setup": ["x"], "sbatch.licenses": "y"}
    assert seen == [("slurm", options), ("processes", {})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("metod = ['quick']", "unknown key 'metod'. Did you mean 'method'"),
        ("method = ['quick']\nmethods = 'rce'", "methods is given twice, under two names."),
        ("data-root = 'a'\ndata_root = 'b'", "data_root is given twice, under two names."),
        ("noise = [0.2, 1.5]", "noise: '1.5' is not a noise ratio; it must be at least 0 and below 1"),
        ("ratios = [0.2, 1.5]", "ratios: '1.5' is not a noise ratio; it must be at least 0 and below 1"),
        ("ratios = []", "ratios: must not be empty;"),
        ("ratios = [true]", "ratios: expected a string or a number, found True."),
        ("seeds = [1.5]", "seeds: '1.5' is not a valid integer"),
        ("budgets = ['lots']", "budgets: 'lots' is not a valid budget. Use 5 "),
        ("launcher = 'cloud'", "launcher: 'cloud' is not one of 'here', 'processes', 'slurm'."),
        ("jobs = 0", "jobs: 0 is not in the range x>=1."),
        ("jobs = [1]", "jobs: expected a string or a number, found [1]."),
        ("max_memory = 'much'", "max_memory: 'much' is not a valid amount of memory"),
        ("overrides = 3", "overrides: expected a list of 'name.key=value' or tables by name, found 3."),
        ("variants = {quick = 3}", "variants: expected a list of 'name.key=value' or tables by name, found "),
        ("slurm = 3", "slurm: expected a table, found 3."),
        ("slurm = {tme = 3}", "slurm: unknown --slurm option 'tme'. Did you mean 'time'"),
        ("slurm = {time = 'soon'}", "slurm: --slurm time=soon: not a valid time. Use 90m, 2h"),
        ("x = ", "not valid TOML: "),
    ],
)
def test_errors_name_the_file_and_key(line: str, message: str, run_file: Callable[..., Result], tmp_path: Path) -> None:
    result = run_file(line)
    assert result.exit_code == 2
    path = tmp_path / "sweep.toml"
    assert result.stderr.startswith(f"Error: --config {path}: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there(cli: Callable[..., Result]) -> None:
    result = cli("run", "--config", "nosuch.toml")
    assert (result.exit_code, "nosuch.toml' does not exist" in result.stderr) == (2, True)


def test_a_file_without_methods(run_file: Callable[..., Result]) -> None:
    result = run_file("ratios = [0.2]")
    assert (result.exit_code, result.stderr) == (2, "Error: Missing option '--method'.\n")
