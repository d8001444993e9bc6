"""How much ncbench says: `--quiet`, `--verbose` and `--debug`, before a command or after it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeVar

import click

LOGGER = "ncbench"
C = TypeVar("C", bound=click.Command)


@dataclass
class Verbosity:
    """What was asked for; `debug` implies `verbose`."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


FLAGS = {
    "quiet": "Say nothing but errors and results: no progress, no warnings, no hints.",
    "verbose": "Say what is being done, on standard error.",
    "debug": "As --verbose, in more detail, and with tracebacks of errors.",
}


class Spoken(logging.Handler):
    """Prints what modules log, a line each, to standard error as it is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(self.format(record), err=True)


def verbosity() -> Verbosity:
    """Return what the command that runs was asked for."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context else None
    return found if isinstance(found, Verbosity) else Verbosity()


def add_flags(command: C, hidden: bool = False) -> C:
    """Give a command, and all commands of a group, the flags; those of inner commands are not in their help."""
    for name, words in FLAGS.items():
        option = click.Option(
            [f"--{name}"], is_flag=True, expose_value=False, is_eager=True, hidden=hidden, help=words, callback=_note
        )
        command.params.append(option)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        add_flags(inner, hidden=True)
    return command


def _note(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    root = context.find_root()
    if not isinstance(root.obj, Verbosity):
        root.obj = Verbosity()
        root.call_on_close(_silence)
    if value:
        setattr(root.obj, str(parameter.name), True)
        _listen(root.obj)
    if root.obj.quiet and (root.obj.verbose or root.obj.debug):
        loud = "--debug" if root.obj.debug else "--verbose"
        raise click.UsageError(f"--quiet and {loud} exclude each other; leave one of them out.")


def _listen(asked: Verbosity) -> None:
    """Print what the modules of ncbench log, as far as that was asked for."""
    _silence()
    if asked.verbose or asked.debug:
        logger, handler = logging.getLogger(LOGGER), Spoken()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s" if asked.debug else "%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if asked.debug else logging.INFO)
        logger.propagate = False


def _silence() -> None:
    logger = logging.getLogger(LOGGER)
    for handler in [handler for handler in logger.handlers if isinstance(handler, Spoken)]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
