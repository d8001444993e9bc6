"""`ncbench doctor`: check the installation and the machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.options import parameters

MARKS = {"ok": "ok", "problem": "PROBLEM", "absent": "-"}


@click.command()
@parameters.data_root
@parameters.as_json
def doctor(data_root: Path | None, as_json: bool) -> None:
    """Check the installation, devices, caches, datasets and plugins.

    Exits with code 1 if a problem is found.
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
            print_table(part.capitalize(), ("item", "status", "details"), rows)
        for finding in problems:
            click.echo(f"{finding.what}: {finding.detail}")
        count = {0: "no problems", 1: "1 problem"}.get(len(problems), f"{len(problems)} problems")
        click.echo(f"{count} found")
    if problems:
        raise SystemExit(1)
