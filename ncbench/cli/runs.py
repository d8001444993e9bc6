"""`ncbench runs`: which runs are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.options import parameters

AXES = ("backbone", "protocol", "noise", "budget", "seed")
DONE = ("id", "dataset", "variant", *AXES, "rsum", "seconds")
NOT_DONE = ("id", "dataset", "method", *AXES, "status", "error")
NUMBERS = ("noise", "budget", "seed", "rsum", "seconds")


@click.command()
@click.option("--runs", "folder", type=parameters.FOLDER, default="runs", show_default=True, help="Run records.")
@click.option("--watch", is_flag=True, help="Show a sweep while it goes on, whoever executes its runs.")
@parameters.sweep
@parameters.as_json
def runs(folder: Path, watch: bool, sweep: str | None, as_json: bool) -> None:
    """List the recorded runs, and those that are not done.

    With --watch, a table of one sweep is kept up to date until all its runs have ended; --json prints how it stands.
    """
    if watch or sweep is not None:
        from ncbench.cli.display.watching import show_sweep, watch_sweep

        (show_sweep if as_json or not watch else watch_sweep)(folder, sweep, as_json)
        return
    from ncbench.records.store import Store
    from ncbench.records.table import load_runs

    unfinished = list(Store(folder).unfinished())
    # Without any run at all, say how to make some.
    done = load_runs(folder).to_dict(orient="records") if _has_results(folder) or not unfinished else []
    rest = [
        {"id": run.folder.name, **run.spec.to_dict(), "status": run.status, "error": run.error} for run in unfinished
    ]
    if as_json:
        print_json([*({**row, "status": "done"} for row in done), *rest])
        return
    if done:
        rows = [[_text(column, _cell(column, row)) for column in DONE] for row in done]
        print_table(f"Runs in {folder}", DONE, rows, numbers=NUMBERS)
    if rest:
        rows = [[_text(column, _cell(column, row)) for column in NOT_DONE] for row in rest]
        print_table(f"Not done in {folder}", NOT_DONE, rows, numbers=NUMBERS)


def _has_results(folder: Path) -> bool:
    return any(folder.glob("*/*/*/result.json"))


def _cell(column: str, run: Mapping[Any, Any]) -> object:
    if column == "budget":
        from ncbench.budget import Budget

        return str(Budget(run["budget"], run["budget_unit"]))
    return run[column]


def _text(column: str, value: object) -> str:
    if value is None or value != value:
        return "-"
    if column in ("rsum", "seconds"):
        return f"{value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
