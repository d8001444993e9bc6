"""The command line. Commands are thin: parse, call, print. They import heavy modules inside their functions."""

from __future__ import annotations

import re
import signal
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from ncbench import __version__
from ncbench.cli.audit import audit
from ncbench.cli.backbones import backbones
from ncbench.cli.cancel import cancel
from ncbench.cli.clean import clean
from ncbench.cli.completion import completion
from ncbench.cli.data import data
from ncbench.cli.display.streams import printable_streams
from ncbench.cli.display.verbosity import add_flags, verbosity
from ncbench.cli.doctor import doctor
from ncbench.cli.eval import evaluate
from ncbench.cli.methods import methods
from ncbench.cli.noise import noise
from ncbench.cli.options.parameters import CommaList
from ncbench.cli.replay import replay
from ncbench.cli.report import report
from ncbench.cli.run import run
from ncbench.cli.runs import runs
from ncbench.cli.show import show
from ncbench.cli.submit import submit, unpack
from ncbench.cli.verify import verify
from ncbench.errors import UserError
from ncbench.runtime.printable import printable
from ncbench.runtime.signals import ended_by_sigterm

# Raised when a group is called without a command; added in click 8.2.
_NEEDS_CONTEXT: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class BadInput(click.ClickException):
    """A UserError, printed in one line."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = _one_line(message)
        super().__init__(line if line.endswith((".", "?", "!")) else f"{line}.")


class Bug(click.ClickException):
    """An unexpected error, printed in one line with its location and a hint at --debug."""

    exit_code = 1

    def __init__(self, error: Exception) -> None:
        (line, *_) = traceback.format_exception_only(error)[-1].strip().splitlines() or [type(error).__name__]
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        super().__init__(f"{_one_line(line)}{place}. This is a bug. Run with --debug for the traceback.")


def _one_line(message: str) -> str:
    return printable(" ".join(message.splitlines()), lines=False)


def _usage_error(error: click.UsageError) -> click.UsageError:
    """Return the error, to be printed in one line: click would print the usage too.

    An extra argument of a command that takes lists may be an item behind a space.
    """
    known = error.ctx.command.params if error.ctx else []
    lists = [option.opts[0] for option in known if isinstance(option.type, CommaList)]
    message = printable(error.message)
    if lists and "unexpected extra argument" in message:
        message += f". Separate the items of a list by commas: {lists[0]} A,B,C."
    error.ctx = None
    vars(error)["message"] = message  # an attribute that click declares as final
    return error


def _show_traceback() -> None:
    """Print the traceback of the current error if --debug is set."""
    if verbosity().debug:
        click.echo(traceback.format_exc(), err=True, nl=False)


class Commands(click.Group):
    """A group that reports invalid input in one line, with exit code 2."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the group's own options."""
        try:
            return super().make_context(*args, **kwargs)
        except _NEEDS_CONTEXT:
            raise
        except click.UsageError as error:
            raise _usage_error(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the named command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _show_traceback()
            raise BadInput(str(error)) from error
        except _NEEDS_CONTEXT:
            raise
        except click.UsageError as error:
            raise _usage_error(error) from None
        except KeyboardInterrupt:
            click.echo(f"Stopped by {signal.SIGINT.name}.", err=True)
            raise SystemExit(128 + signal.SIGINT) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                _show_traceback()
                raise BadInput(f"{error.filename}: {error.strerror}.") from error
            if verbosity().debug or isinstance(error, BrokenPipeError):
                raise
            raise Bug(error) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Benchmark training methods for noisy correspondence.

    Noisy correspondence means that some image-text pairs of a training set are mismatched.

    Example: ncbench run --method triplet,l2rm --noise 0.2,0.4,0.6
    """
    warnings.showwarning = _show_warning
    _shown.clear()
    context = click.get_current_context()
    context.with_resource(printable_streams())
    context.with_resource(ended_by_sigterm())


_shown: set[tuple[type[Warning], str]] = set()  # warnings of this process, without their numbers


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print a warning in one line, without its source location; one that differs in numbers alone only once.

    Methods and libraries may warn at every update. What is said about data is always printed.
    """
    from ncbench.data.data_warning import DataWarning
    from ncbench.data.tokenise import TokenisationWarning

    text = _one_line(str(message))
    key = category, re.sub(r"\d[\d.,]*(e[+-]?\d+)?", "#", text)
    seen = key in _shown and not issubclass(category, DataWarning | TokenisationWarning)
    if not (verbosity().quiet or seen):
        _shown.add(key)
        click.echo(f"Warning: {text}", err=True)


for command in (
    run, evaluate, report, audit, clean, runs, show, cancel, replay, verify, submit, unpack, methods, backbones, data,
    noise, doctor, completion,
):  # fmt: skip
    main.add_command(command)
add_flags(main)
