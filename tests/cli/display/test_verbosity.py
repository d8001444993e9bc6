"""`--quiet`, `--verbose` and `--debug`: before a command and after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from ncbench.cli import main
from ncbench.cli.display.verbosity import LOGGER, verbosity
from ncbench.method.registry import load_method

WORDS = ("--method", "quick", "--noise", 0.4)


def test_quiet_leaves_the_results(toy_run: Callable[..., Result]) -> None:
    loud = toy_run(*WORDS)
    assert "[1/1] quick with vse on tiny" in loud.stdout
    assert "Records are in " in loud.stdout
    quiet = toy_run(*WORDS, "--quiet", "--seed", 1)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    first, *_, last = quiet.stdout.splitlines()
    assert (first[0], last[0]) == ("┏", "└")
    assert "quick" in quiet.stdout


def test_quiet_keeps_json_and_errors(toy_run: Callable[..., Result]) -> None:
    result = toy_run(*WORDS, "--json", "--quiet")
    assert json.loads(result.stdout)[0]["status"] == "done"
    assert result.stderr == ""
    result = toy_run("--method", "failing", "--noise", 0.4, "--quiet")
    assert result.exit_code == 1
    assert result.stderr.startswith("diverged: failing with vse on tiny")


def test_quiet_keeps_no_warnings(cli: Callable[..., Result], register: Callable[..., None]) -> None:
    register("ncbench.methods", "broken", ImportError("gone"))
    assert "Warning: method 'broken' " in cli("methods", "list").stderr
    assert cli("--quiet", "methods", "list").stderr == ""
    assert cli("methods", "list", "--quiet").stderr == ""


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("flag", ["--verbose", "--debug"])
def test_verbose_says_what_is_done(flag: str, toy_run: Callable[..., Result], tmp_path: Path) -> None:
    result = toy_run(*WORDS, "--checkpoint-every", 0, "--budget", 3, flag)
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if "warn" not in line.lower()]
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    said = iter(lines)
    for module, words in (
        ("data.registry", "loading dataset tiny"),
        ("data.registry", "dataset tiny: images train 24, dev 8, test 8 ("),
        *([("noise.registry", "drew noise shuffle-images 0.4 with seed ")] if flag == "--debug" else []),
        ("training.run", f"run {folder.name}: starts in {folder}"),
        ("training.run", f"run {folder.name}: recorded in {folder}"),
    ):
        start = f"ncbench.{module}: {words}" if flag == "--debug" else words
        assert any(line.startswith(start) for line in said), words  # in this order
    assert any("checkpoint after 6 updates" in line for line in lines) == (flag == "--debug")


def test_one_command_does_not_make_the_next_one_talk(cli: Callable[..., Result]) -> None:
    cli("--debug", "noise", "list")
    assert logging.getLogger(LOGGER).handlers == []
    assert cli("noise", "list").stderr == ""


def test_debug_shows_tracebacks(cli: Callable[..., Result]) -> None:
    short = cli("methods", "show", "tripled")
    long = cli("methods", "show", "tripled", "--debug")
    assert short.exit_code == long.exit_code == 2
    assert short.stderr.count("\n") == 1
    assert "Traceback (most recent call last):" in long.stderr
    assert long.stderr.endswith(short.stderr)


def test_debug_shows_tracebacks_of_the_system(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("report", "--runs", tmp_path / "file" / "below")
    assert "Traceback" not in cli(*words).stderr


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise KeyError("oh\nno")

    monkeypatch.setattr("ncbench.method.registry.load_method", fail)


def test_a_bug_is_one_line(cli: Callable[..., Result], bug: None) -> None:
    result = cli("methods", "show", "triplet")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("Error: KeyError: 'oh\\nno' (test_verbosity.py, line ")
    assert result.stderr.endswith("This is a bug. Run with --debug for the traceback.\n")
    with_all = cli("--debug", "methods", "show", "triplet")
    assert isinstance(with_all.exception, KeyError)


@pytest.mark.parametrize("loud", ["--verbose", "--debug"])
@pytest.mark.parametrize("words", [("--quiet", "{}", "runs"), ("--quiet", "runs", "{}"), ("runs", "{}", "--quiet")])
def test_quiet_and_loud(words: tuple[str, ...], loud: str, cli: Callable[..., Result]) -> None:
    result = cli(*(word.format(loud) for word in words))
    message = f"Error: --quiet and {loud} cannot be combined.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)


def test_every_command_takes_the_flags() -> None:
    def walk(command: click.Command) -> None:
        names = {parameter.name for parameter in command.params}
        assert {"quiet", "verbose", "debug"} <= names, command.name
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            walk(inner)

    walk(main)
    assert not any((verbosity().quiet, verbosity().verbose, verbosity().debug))
    assert load_method("triplet").name == "triplet"
