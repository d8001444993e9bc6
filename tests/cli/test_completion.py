"""`ncbench completion`: valid shell scripts and completed names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import Result

from ncbench.cli import main
from ncbench.cli.options.names import NAMES_BY_PARAMETER, complete_names, complete_runs, complete_sweeps
from ncbench.method.registry import load_method, method_names
from ncbench.method.setting_names import setting_names

COMPLETE = """
import atexit, sys
from ncbench.cli import main
atexit.register(lambda: "torch" in sys.modules and print("torch was imported", file=sys.stderr))
main(prog_name='ncbench')
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_accepts_its_script(shell: str, cli: Callable[..., Result]) -> None:
    result = cli("completion", shell)
    assert result.exit_code == 0
    assert f"_NCBENCH_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=result.stdout, text=True, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell(cli: Callable[..., Result]) -> None:
    result = cli("completion", "csh")
    assert (result.exit_code, "'csh' is not one of 'bash', 'zsh', 'fish'." in result.stderr) == (2, True)
    for shell in ("bash", "zsh", "fish"):
        assert f"ncbench completion {shell}" in cli("completion", "--help").stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ncbench me", ["methods"]),
        ("ncbench methods c", ["check"]),
        ("ncbench run --method triplet,l2", ["triplet,l2rm"]),
        ("ncbench run --protocol shuffle-", ["shuffle-captions", "shuffle-images"]),
        ("ncbench run --dataset sc", ["scenes", "scenes-large", "scenes-vectors"]),
        ("ncbench run --backbone vse", ["vse", "vse-infinity", "vse-mlp"]),
        ("ncbench methods check rc", ["rce", "rcl"]),
        ("ncbench data check co", ["coco"]),
        ("ncbench noise check shuffle-i", ["shuffle-images"]),
        ("ncbench run --seed 1", []),
        ("ncbench run --set ncr.w", ["ncr.warmup="]),
        ("ncbench run --set ncr.lr", ["ncr.lr="]),  # from the base class
        ("ncbench run --variant backbone.dr", ["backbone.dropout="]),
        ("ncbench run --method l2rm --set l2rm.cost=l", ["l2rm.cost=learned"]),
        ("ncbench methods check l2rm --set l2rm.cost=c", ["l2rm.cost=complement"]),
        ("ncbench run --set nothing.lr", []),
        ("ncbench report --published f", ["f30k"]),
        ("ncbench methods check triplet --backbone vse-", ["vse-infinity", "vse-mlp"]),
        ("ncbench run --method ./me", ["./me"]),  # the shell completes files
    ],
)
def test_what_is_completed(line: str, expected: list[str]) -> None:
    words = line.split()
    environment = {
        **os.environ,
        "_NCBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-c", COMPLETE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert [found.partition(",")[2] for found in done.stdout.split()] == expected


PLUGIN = """
raise SystemExit("this file was run")
class Mine(Method):
    name = "mine"
    @dataclass(frozen=True)
    class Config(TrainingSettings):
        gentle: bool = setting(False, "", "")
        mode: typing.Literal["soft", "hard"] = "soft"
"""


def test_settings_of_files_are_read_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.py").write_text(PLUGIN)
    expected = ["batch_size", "lr", "decay_every", "clip", "gentle", "mode"]
    assert list(setting_names("mine")) == list(setting_names("methods/mine.py")) == expected
    assert (setting_names("mine")["gentle"], setting_names("mine")["mode"]) == (["true", "false"], ["soft", "hard"])
    for broken in ("class (", "x = " + "(" * 10_000, "class Mine(Method):\n name = 'mine'"):
        (tmp_path / "methods" / "mine.py").write_text(broken)
        assert setting_names("methods/mine.py") == {}


@pytest.mark.parametrize("name", method_names())
def test_the_settings_of_all_methods_are_known(name: str) -> None:
    assert list(setting_names(name)) == [entry.name for entry in fields(load_method(name).Config)]


def test_sweeps_and_runs_of_the_folder(tmp_path: Path) -> None:
    for part in ("sweeps/abc1/plan.json", "sweeps/abd2/plan.json", "sweeps/x/other", "toy/quick/0123/spec.json"):
        (tmp_path / part).parent.mkdir(parents=True)
        (tmp_path / part).touch()
    context = click.Context(main, info_name="ncbench")
    context.params["folder"] = str(tmp_path)
    parameter = main.params[0]
    assert [item.value for item in complete_sweeps(context, parameter, "ab")] == ["abc1", "abd2"]
    assert [item.value for item in complete_runs(context, parameter, "01")] == ["0123"]
    assert [item.type for item in complete_runs(context, parameter, "runs/")] == ["dir"]


def test_names_while_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [item.value for item in complete_names("methods", "trip")] == ["triplet"]
    assert complete_names("seeds", "1") == []
    assert set(NAMES_BY_PARAMETER) == {"methods", "datasets", "protocols", "backbones"}
    monkeypatch.setenv("NCBENCH_PLUGINS", "/no/such/folder")
    assert complete_names("methods", "trip") == []
