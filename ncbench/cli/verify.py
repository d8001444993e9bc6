"""`ncbench verify`: whether records hold together."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli import parameters
from ncbench.cli.output import print_json


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=parameters.FOLDER)
@parameters.as_json
def verify(folders: tuple[Path, ...], as_json: bool) -> None:
    """Check records: a folder of runs, or of one.

    Scores are computed again from the ranks that were stored; work must keep the budget; specs, ids, digests, dev
    evaluations and measurements must fit together. Ends with exit code 1 if a record does not hold.
    """
    from ncbench.verification import runs_below, verify_run

    found = {run: verify_run(run) for folder in folders for run in runs_below(folder)}
    bad = {run: problems for run, problems in found.items() if problems}
    if as_json:
        print_json({"runs": len(found), "problems": {str(run): problems for run, problems in bad.items()}})
    else:
        for run, problems in bad.items():
            for problem in problems:
                click.echo(f"{run}: {problem}.")
        click.echo(f"{len(found)} {'run' if len(found) == 1 else 'runs'} checked, {len(bad)} with problems")
    if bad:
        raise SystemExit(1)
