"""The command line. Commands are thin: parse, call, print; what is heavy is imported when a command runs."""

from __future__ import annotations

import warnings
from typing import Any

import click

from ncbench import __version__
from ncbench.cli.audit import audit
from ncbench.cli.cancel import cancel
from ncbench.cli.data import data
from ncbench.cli.eval import evaluate
from ncbench.cli.methods import methods
from ncbench.cli.replay import replay
from ncbench.cli.report import report
from ncbench.cli.run import run
from ncbench.cli.runs import runs
from ncbench.cli.verify import verify
from ncbench.errors import UserError

# A group without a command ends in its help; click before 8.2 knows no such error.
_NEEDS_CONTEXT: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class BadInput(click.ClickException):
    """A UserError on its way to the terminal: one line."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__(line if line.endswith((".", "?", "!")) else f"{line}.")


class Commands(click.Group):
    """A group whose bad input ends in one line and exit code 2."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options of the group itself."""
        try:
            return super().make_context(*args, **kwargs)
        except _NEEDS_CONTEXT:
            raise
        except click.UsageError as error:
            error.ctx = None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is named."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise BadInput(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise BadInput(f"{error.filename}: {error.strerror}.") from error
        except _NEEDS_CONTEXT:
            raise
        except click.UsageError as error:
            error.ctx = None  # with it, click would add the usage in lines of its own
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Benchmark training methods for noisy correspondence: image-text pairs of which a part is mismatched.

    Start with: ncbench run --method triplet,l2rm --noise 0.2,0.4,0.6
    """
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line, without the place in the code that a user cannot do anything about."""
    click.echo(f"Warning: {message}", err=True)


for command in (run, evaluate, report, audit, runs, cancel, replay, verify, methods, data):
    main.add_command(command)
