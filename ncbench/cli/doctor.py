"""`ncbench doctor`: what there is to work with, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.options import parameters

MARKS = {"ok": "ok", "problem": "PROBLEM", "absent": "-"}


@click.command()
@click.option("--data-root", type=parameters.FOLDER, help="Where to look for the files of released datasets.")
@parameters.as_json
def doctor(data_root: Path | None, as_json: bool) -> None:
    """Print what is installed, devices, caches, data and plugins, and what is wrong with them.

    Ends with exit code 1 if there is something to mend.
    """
    from ncbench.checks.doctor import examine

    found = examine(data_root)
    problems = found.problems
    if as_json:
        parts = {part: [asdict(finding) for finding in findings] for part, findings in found.parts.items()}
        print_json({**parts, "problems": len(problems)})
    else:
        for part, findings in found.parts.items():
            rows = [(finding.what, MARKS[finding.state], finding.detail) for finding in findings]
            print_table(part.capitalize(), ("what", "state", "more"), rows)
        for finding in problems:
            click.echo(f"{finding.what}: {finding.detail}")
        count = {0: "no problems", 1: "1 problem"}.get(len(problems), f"{len(problems)} problems")
        click.echo(f"{count} found")
    if problems:
        raise SystemExit(1)
