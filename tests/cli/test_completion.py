"""`ncbench completion`: valid shell scripts and completed names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result

from ncbench.cli.options.names import NAMES_BY_PARAMETER, complete_names

COMPLETE = "from ncbench.cli import main; main(prog_name='ncbench')"


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
        ("ncbench run --dataset sc", ["scenes", "scenes-large"]),
        ("ncbench run --backbone vse", ["vse", "vse-infinity"]),
        ("ncbench methods check rc", ["rce", "rcl"]),
        ("ncbench data check co", ["coco"]),
        ("ncbench noise check shuffle-i", ["shuffle-images"]),
        ("ncbench run --seed 1", []),
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


def test_names_while_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [item.value for item in complete_names("methods", "trip")] == ["triplet"]
    assert complete_names("seeds", "1") == []
    assert set(NAMES_BY_PARAMETER) == {"methods", "datasets", "protocols", "backbones"}
    monkeypatch.setenv("NCBENCH_PLUGINS", "/no/such/folder")
    assert complete_names("methods", "trip") == []
