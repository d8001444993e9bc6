"""Output and exit code of the `check` commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncbench.cli.display.output import console, print_json
from ncbench.cli.display.verbosity import verbosity
from ncbench.runtime.printable import printable

if TYPE_CHECKING:
    from ncbench.checks.verdicts import Verdict

STYLES = {"pass": "green", "fail": "bold red", "skipped": "dim"}

json_file = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Also write the results to this JSON file; - prints JSON instead of the table.",
)


def show_verdicts(title: str, verdicts: Iterator[Verdict], json_path: Path | None) -> None:
    """Run the checks, print a table of verdicts and remedies, and write JSON if `json_path` is given.

    Exits with code 1 if a check fails. Raises UserError before the first check if the JSON file cannot be written.
    """
    to_stdout = json_path is not None and str(json_path) == "-"
    if json_path is not None and not to_stdout:
        _check_writable(json_path)
    found = list(_with_status(title, verdicts))
    failed = [verdict for verdict in found if verdict.outcome == "fail"]
    content = {"subject": title, "failed": len(failed), "verdicts": [asdict(verdict) for verdict in found]}
    if json_path is not None and to_stdout:
        print_json(content)
    elif json_path is not None:
        from ncbench.runtime.files import write_json

        write_json(json_path, content)
    if not to_stdout:
        _print(title, found)
    if failed:
        raise SystemExit(1)


def _check_writable(path: Path) -> None:
    from ncbench.errors import UserError

    if not path.absolute().parent.is_dir():
        raise UserError(f"--json {path}: folder {path.parent} does not exist.")


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
