"""`ncbench show`: one run on one screen."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli.display.output import print_json
from ncbench.cli.options import parameters
from ncbench.cli.options.names import complete_runs


@click.command()
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@parameters.runs_folder
@parameters.as_json
def show(run: str, folder: Path, as_json: bool) -> None:
    """Show one run: scores, course of training, beliefs, cost, settings and files.

    RUN is a run folder, or the id of a run in --runs or its first digits.
    """
    from ncbench.cli.display.one_run import content, print_run
    from ncbench.records.locate import find_run

    found = find_run(run, folder)
    if as_json:
        print_json(content(found))
    else:
        print_run(found)
