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
    columns = ("id", "dataset", "variant", "backbone", "protocol", "noise", "budget", "seed", "rsum", "seconds")
    rows = [
        [_text(column, value) for column, value in zip(columns, row, strict=True)]
        for row in frame[list(columns)].values
    ]
    print_table(f"Runs in {folder}", columns, rows, numbers=("noise", "budget", "seed", "rsum", "seconds"))


def _text(column: str, value: object) -> str:
    if value is None or value != value:
        return "-"
    if column in ("rsum", "seconds"):
        return f"{value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
