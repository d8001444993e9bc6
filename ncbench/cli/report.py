"""`ncbench report`: leaderboards from run records."""

from __future__ import annotations

from pathlib import Path

import click

from ncbench.cli import parameters
from ncbench.cli.output import print_json, print_table


@click.command()
@click.option("--runs", "folder", type=parameters.FOLDER, default="runs", show_default=True, help="Run records.")
@click.option(
    "--out", type=parameters.FOLDER, default="leaderboards", show_default=True, help="Where pages are written."
)
@parameters.as_json
def report(folder: Path, out: Path, as_json: bool) -> None:
    """Write leaderboards: per dataset a markdown page, a figure and a table of the runs."""
    from ncbench.report import write_report
    from ncbench.report.frame import load_runs
    from ncbench.report.overview import overviews
    from ncbench.report.overview import rows as overview_rows
    from ncbench.report.tables import COLUMNS, comparisons

    frame = load_runs(folder)
    written = write_report(frame, out)
    tables = comparisons(frame)
    if as_json:
        content = [{**table.key, "rows": table.rows.to_dict(orient="records")} for table in tables]
        print_json({"written": [str(path) for path in written], "comparisons": content})
        return
    for overview in overviews(frame):
        heads, *rows = overview_rows(overview)
        print_table(f"rSum over noise ratios: {overview.title}", tuple(heads), rows, numbers=heads[1:])
    for table in tables:
        columns = tuple(COLUMNS.values())
        print_table(table.title, columns, table.cells(), numbers=columns[1:])
    for path in written:
        click.echo(f"wrote {path}")
