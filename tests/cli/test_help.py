"""Help and version: their content, and that they import no heavy modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points

import click
import pytest
from click.testing import Result

from ncbench import __version__
from ncbench.cli import main

HEAVY = ("torch", "pandas", "numpy", "scipy", "matplotlib", "datasets", "ot", "rich")

LOADED = f"""
import sys
from ncbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("exit", end.code)
print("loaded", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("line", "code", "loaded"),
    [
        ("--help", 0, []),
        ("--version", 0, []),
        ("run --help", 0, []),
        ("run --method triplet --noise 2", 2, []),
        ("run --method triplt", 2, ["numpy"]),
        ("run --method triplet --set x", 2, ["numpy"]),  # noise protocols are checked first
        ("rum", 2, []),
        ("eval --help", 0, []),
        ("methods check --help", 0, []),
        ("methods check triplt", 2, ["numpy"]),
        ("noise check --help", 0, []),
        ("doctor --help", 0, []),
        ("completion fish", 0, []),
        ("--quiet --debug runs", 2, []),
        ("audit --help", 0, []),
        ("audit . --top 0", 2, []),
        ("eval --checkpoint nosuch --dataset f30k", 2, []),
        ("eval --checkpoint . --dataset f3k", 2, []),
        ("run --method triplet --precision bf17", 2, []),
        ("eval --checkpoint . --dataset f30k --precision bf17", 2, []),
        ("eval --checkpoint . --dataset f30k --similarities .", 2, []),
    ],
)
def test_help_and_mistakes_load_nothing_heavy(line: str, code: int, loaded: list[str]) -> None:
    words = [sys.executable, "-c", LOADED, *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *_, end, found = done.stdout.splitlines()
    assert end == f"exit {code}"
    assert set(found.split()[1:]) <= set(loaded)


def test_entry_point_is_installed() -> None:
    (entry,) = entry_points(group="console_scripts", name="ncbench")
    module, _, function = entry.value.partition(":")
    words = [sys.executable, "-c", f"from {module} import {function}; {function}()", "nosuch"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: No such command 'nosuch'.\n"


def test_help_names_every_command(cli: Callable[..., Result]) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    for line in (
        "  run         Train and test methods under noise.",
        "  eval        Evaluate released checkpoints or finished runs.",
        "  report      Write leaderboards: ",
        "  audit       List a run's training pairs, ",
        "  runs        List finished and unfinished runs.",
        "  methods     List, show, check and create training methods.",
        "  data        List, check and create datasets.",
        "  noise       List and check noise protocols.",
        "  doctor      Check the installation, devices, caches, datasets and plugins.",
        "  completion  Print a shell completion script.",
        "  Example: ncbench run --method triplet,l2rm --noise 0.2,0.4,0.6",
    ):
        assert f"\n{line}" in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("run",),
        ("eval",),
        ("report",),
        ("audit",),
        ("runs",),
        ("methods",),
        ("methods", "list"),
        ("methods", "show"),
        ("data",),
        ("data", "list"),
        ("data", "check"),
        ("methods", "check"),
        ("methods", "new"),
        ("noise",),
        ("noise", "list"),
        ("noise", "check"),
        ("doctor",),
        ("completion",),
    ],
    ids=" ".join,
)
def test_every_command_has_help_under_both_names(words: tuple[str, ...], cli: Callable[..., Result]) -> None:
    long, short = cli(*words, "--help"), cli(*words, "-h")
    assert long.exit_code == short.exit_code == 0
    assert long.stdout == short.stdout
    assert long.stdout.startswith("Usage: ")
    assert "-h, --help" in long.stdout
    assert long.stderr == ""


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("--noise", "0.2,0.4,0.6"),
        ("--protocol", "shuffle-images"),
        ("--dataset", "scenes"),
        ("--budget", "set by the dataset"),
        ("--seed", "0"),
        ("--evaluations", "one per epoch; 10 if the budget is in FLOPs or time"),
        ("--out", "runs"),
        ("--device", "auto"),
        ("--precision", "float32"),
        (
            "--jobs",
            "one per CUDA device; on a CPU one per core if networks are small, else 1; with Slurm no limit",
        ),
        ("--launcher", "processes"),
    ],
)
def test_help_of_run_states_defaults(option: str, default: str, cli: Callable[..., Result]) -> None:
    text = " ".join(cli("run", "--help").stdout.split())
    about = text.partition(f" {option} ")[2].partition(" --")[0]
    assert f"[default: {default}]" in about


@pytest.mark.parametrize("command", ["run", "eval"])
def test_help_says_what_precisions_are_for(command: str, cli: Callable[..., Result]) -> None:
    text = " ".join(cli(command, "--help").stdout.split())
    about = text.partition(" --precision ")[2].partition(" --")[0]
    assert about.startswith("[float32|tf32|bf16] ")
    assert "tf32 (CUDA) and bf16 (sgr, saf and sgraf only) are faster" in about
    assert " --device [auto|cpu|cuda|mps] " in text


@pytest.mark.parametrize(
    "words", [(), ("methods",), ("data",), ("noise",)], ids=["ncbench", "methods", "data", "noise"]
)
def test_a_group_alone_shows_its_help(words: tuple[str, ...], cli: Callable[..., Result]) -> None:
    result = cli(*words)
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Usage: " in result.output
    assert "Commands:" in result.output
    assert result.exit_code in (0, 2)  # click 8.1 exits with 0, later versions with 2


def test_version(cli: Callable[..., Result]) -> None:
    result = cli("--version")
    assert (result.exit_code, result.stdout) == (0, f"main, version {__version__}\n")


def all_commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with their full names."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_json_is_a_flag_everywhere() -> None:
    options = {
        name: option for name, command in all_commands(main) for option in command.params if "--json" in option.opts
    }
    assert {"run", "runs", "show", "doctor", "methods check", "noise check", "data check"} <= set(options)
    assert all(isinstance(option, click.Option) and option.is_flag for option in options.values())
