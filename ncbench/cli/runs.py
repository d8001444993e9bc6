"""`ncbench runs`: which runs are recorded."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli import parameters
from ncbench.cli.output import print_json, print_table


@click.command()
@click.option("--runs", "folder", type=parameters.FOLDER, default="runs", show_default=True, help="Run records.")
@parameters.as_json
def runs(folder: Path, as_json: bool) -> None:
    """List the recorded runs."""
    from ncbench.report.frame import load_runs

    frame = load_runs(folder)
    if as_json:
        print_json(frame.to_dict(orient="records"))
        return
    columns = ("id", "dataset", "method", "backbone", "protocol", "noise", "budget", "seed", "rsum", "seconds")
    rows = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in frame[list(columns)].values
    ]
    print_table(f"Runs in {folder}", columns, rows)
