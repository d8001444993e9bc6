"""Output and exit code of the `check` commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import console, print_json
from ncbench.cli.display.verbosity import verbosity
from ncbench.runtime.printable import printable

if TYPE_CHECKING:
    from ncbench.checks.verdicts import Verdict

STYLES = {"pass": "green", "fail": "bold red", "skipped": "dim"}


class CheckCommand(click.Command):
    """A command whose `--json` is a flag; in earlier versions a file name, or -, followed it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; `--json -` still works, and `--json FILE` ends in a message of its own."""
        words = list(args)
        after = words.index("--json") + 1 if "--json" in words else len(words)
        value = words[after] if after < len(words) else ""
        if value == "-":
            del words[after]
        try:
            return super().parse_args(ctx, words)
        except click.UsageError as error:
            if value.endswith(".json"):
                hint = (
                    f"it prints JSON to standard output. To keep it in a file: {ctx.command_path} ... --json > {value}"
                )
                raise click.UsageError(f"--json takes no file name; {hint}") from error
            raise


def show_verdicts(title: str, verdicts: Iterator[Verdict], as_json: bool) -> None:
    """Run the checks, and print a table of verdicts and remedies, or JSON. Exits with code 1 if a check fails."""
    found = list(_with_status(title, verdicts))
    failed = [verdict for verdict in found if verdict.outcome == "fail"]
    if as_json:
        print_json({"subject": title, "failed": len(failed), "verdicts": [asdict(verdict) for verdict in found]})
    else:
        _print(title, found)
    if failed:
        raise SystemExit(1)


def _with_status(title: str, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """Yield the verdicts; show the current state on a terminal."""
    from rich.markup import escape

    shown = console(to_stderr=True)
    with (
        shown.status(escape(printable(title)))
        if shown.is_terminal and not verbosity().quiet
        else nullcontext() as status
    ):
        for verdict in verdicts:
            if status is not None:
                status.update(escape(printable(f"{title}: {verdict.check}: {verdict.outcome}")))
            yield verdict


def _print(title: str, found: list[Verdict]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for column in ("check", "result", "details"):
        table.add_column(column, no_wrap=column != "details")
    for verdict in found:
        style = STYLES[verdict.outcome]
        table.add_row(verdict.check, f"[{style}]{verdict.outcome}[/]", escape(verdict.detail))
    out = console()
    out.print(table)
    for verdict in found:
        if verdict.outcome == "fail":
            click.echo(f"{verdict.check} failed. Requirement: {verdict.proves}.")
            click.echo(f"  Fix: {verdict.remedy}.")
    counts = Counter(verdict.outcome for verdict in found)
    click.echo(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skipped']} skipped")
