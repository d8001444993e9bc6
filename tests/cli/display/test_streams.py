"""What commands print cannot control the terminal, whoever chose the names."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

from ncbench.checks.verdicts import Verdict
from ncbench.cli import main
from ncbench.cli.display import verbosity
from ncbench.cli.display.consoles import PrintableConsole
from ncbench.cli.display.output import console, print_json, print_table
from ncbench.cli.display.streams import PrintableStream, printable_streams
from ncbench.cli.display.verdicts import show_verdicts
from ncbench.errors import UserError

NASTY = "\x1b[2J\x1b]0;pwn\x07\u202e\x9b31m"
SHOWN = r"\x1b[2J\x1b]0;pwn\x07\u202e\x9b31m"


def warn() -> None:
    warnings.warn(NASTY, RuntimeWarning, stacklevel=1)


def log() -> None:
    verbosity.StderrHandler().emit(logging.LogRecord("ncbench", logging.INFO, "", 1, NASTY, None, None))


def say(kind: Callable[[str], Exception]) -> Callable[[], None]:
    def fail() -> None:
        raise kind(NASTY)

    return fail


WAYS: dict[str, Callable[[], object]] = {
    "echo": lambda: click.echo(NASTY),
    "echo to stderr": lambda: click.echo(NASTY, err=True),
    "print": lambda: print(NASTY),
    "table": lambda: print_table(NASTY, [NASTY], [[NASTY]]),
    "console": lambda: console().print(NASTY, markup=False, soft_wrap=True),
    "warning": warn,
    "log": log,
    "user error": say(UserError),
    "usage error": say(click.UsageError),
    "bug": say(RuntimeError),
    "file error": lambda: open(f"/missing/{NASTY.replace('/', '')}"),  # noqa: PTH123, SIM115
    "verdicts": lambda: show_verdicts(NASTY, iter([Verdict(NASTY, "fail", NASTY, NASTY, NASTY, 0.0)]), None),
}


@pytest.fixture
def command(request: pytest.FixtureRequest) -> Any:
    main.add_command(click.Command("speak", callback=WAYS[request.param]))
    yield "speak"
    del main.commands["speak"]


@pytest.mark.parametrize("command", WAYS, indirect=True)
def test_every_way_to_print_is_harmless(command: str) -> None:
    result = CliRunner().invoke(main, [command])
    assert "\x1b" not in result.output
    assert not set(NASTY) - set("[2J]0;pwn31m") & set(result.output)
    assert SHOWN.removeprefix(r"\x1b[2J") in result.output  # click leaves out some sequences where no terminal is


def test_arguments_come_back_harmless() -> None:
    for words in ([NASTY], ["runs", f"--{NASTY}"], ["run", "--method", NASTY], ["runs", "--runs", NASTY]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert "\x1b" not in result.output
        assert "\\x1b" in result.output


def test_json_is_harmless() -> None:
    main.add_command(click.Command("speak", callback=lambda: print_json({NASTY: NASTY})))
    try:
        assert "\x1b" not in CliRunner().invoke(main, ["speak"]).output
    finally:
        del main.commands["speak"]


def test_tables_on_a_terminal_keep_their_own_styles() -> None:
    text = io.StringIO()
    terminal = PrintableConsole(file=text, force_terminal=True, width=200)
    table = Table()
    table.add_column("name", style="bold red")
    table.add_row(NASTY)
    terminal.print(table)
    terminal.print(Text(NASTY))
    assert text.getvalue().count(r"\x1b[2J\x1b]0;pwn") == 2
    assert "\x1b[1;31m" in text.getvalue()
    assert "\x1b[2J" not in text.getvalue()


def test_a_stream_without_a_character_gets_its_escape() -> None:
    raw = io.BytesIO()
    stream = PrintableStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.writelines(["ü\n", "é"])
    stream.flush()
    assert raw.getvalue() == b"\\xfc\n\\xe9"
    assert not hasattr(stream, "buffer")


def test_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    with suppress(KeyError), printable_streams():
        assert sys.stdout is not before[0]
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


def test_ctrl_c_ends_a_command_in_one_line() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    main.add_command(click.Command("speak", callback=interrupt))
    try:
        result = CliRunner().invoke(main, ["speak"])
    finally:
        del main.commands["speak"]
    assert (result.exit_code, result.output) == (130, "Stopped by SIGINT.\n")
