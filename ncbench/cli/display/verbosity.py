"""The flags `--quiet`, `--verbose` and `--debug`, accepted before and after a command."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeVar

import click

from ncbench.runtime.printable import printable

LOGGER = "ncbench"
C = TypeVar("C", bound=click.Command)


@dataclass
class Verbosity:
    """The flags that were given; `debug` implies `verbose`."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


FLAGS = {
    "quiet": "Print only results and errors.",
    "verbose": "Print log messages to standard error.",
    "debug": "Print detailed log messages and tracebacks.",
}


class StderrHandler(logging.Handler):
    """Prints log records to the current standard error, which tests may replace."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log record."""
        click.echo(printable(self.format(record)), err=True)


def verbosity() -> Verbosity:
    """Return the verbosity of the current command."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context else None
    return found if isinstance(found, Verbosity) else Verbosity()


def add_flags(command: C, hidden: bool = False) -> C:
    """Add the flags to a command and, hidden from their help, to all commands of a group."""
    for name, text in FLAGS.items():
        option = click.Option(
            [f"--{name}"], is_flag=True, expose_value=False, is_eager=True, hidden=hidden, help=text, callback=_set_flag
        )
        command.params.append(option)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        add_flags(inner, hidden=True)
    return command


def _set_flag(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    root = context.find_root()
    if not isinstance(root.obj, Verbosity):
        root.obj = Verbosity()
        root.call_on_close(_disable_logging)
    if value:
        setattr(root.obj, str(parameter.name), True)
        _enable_logging(root.obj)
    if root.obj.quiet and (root.obj.verbose or root.obj.debug):
        loud = "--debug" if root.obj.debug else "--verbose"
        raise click.UsageError(f"--quiet and {loud} cannot be combined.")


def _enable_logging(level: Verbosity) -> None:
    """Print the log records of ncbench at the requested level."""
    _disable_logging()
    if level.verbose or level.debug:
        logger, handler = logging.getLogger(LOGGER), StderrHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s" if level.debug else "%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if level.debug else logging.INFO)
        logger.propagate = False


def _disable_logging() -> None:
    logger = logging.getLogger(LOGGER)
    for handler in [handler for handler in logger.handlers if isinstance(handler, StderrHandler)]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
