"""`ncbench runs`: list recorded runs, or watch a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncbench.cli.display.output import print_json, print_table
from ncbench.cli.display.problems import Problems
from ncbench.cli.options import parameters
from ncbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

AXES = ("backbone", "protocol", "noise", "budget", "seed")
DONE_COLUMNS = ("id", "dataset", "variant", *AXES, "rsum", "seconds", "resumed at")
UNFINISHED_COLUMNS = ("id", "dataset", "method", *AXES, "resumed at", "status", "error")
LISTED = (*(name.replace(" ", "_") for name in DONE_COLUMNS), "dataset_digest", "harness", "budget_unit")
"""The columns of the table of runs that a listing needs."""
NUMERIC_COLUMNS = ("noise", "budget", "seed", "rsum", "seconds", "resumed at")


@click.command()
@parameters.runs_folder
@click.option("--watch", is_flag=True, help="Show a live table of a sweep until all its runs have ended.")
@click.option("--wait", is_flag=True, help="With --watch: wait for processes to work on the sweep.")
@parameters.sweep
@parameters.as_json
def runs(folder: Path, watch: bool, wait: bool, sweep: str | None, as_json: bool) -> None:
    """List finished and unfinished runs.

    With --sweep, show the current state of one sweep. With --watch, keep it up to date, wherever its runs execute; exit
    with code 3 if runs are left and no process works on them.
    """
    if watch or sweep is not None:
        from ncbench.cli.display.watching import show_sweep, watch_sweep
        from ncbench.records.locate import whole_root

        folder = whole_root(folder)
        if watch and not as_json:
            watch_sweep(folder, sweep, wait)
        else:
            show_sweep(folder, sweep, as_json)
        return
    if wait:
        raise UserError("--wait needs --watch")
    from ncbench.data.same_names import told_apart
    from ncbench.records.progress import resumed_share
    from ncbench.records.remembered import remembering
    from ncbench.records.store import Store

    problems = Problems()
    unfinished = list(Store(folder).unfinished(problems.add))
    problems.show()
    done: list[dict[Any, Any]] = []
    try:
        with remembering(folder) as remembered:

            def load() -> pd.DataFrame:
                from ncbench.records.table import load_runs, read_row

                verify, row = remembered.verify, lambda record: remembered.row(record, read_row)
                return load_runs(folder, problems.add, verify, row)

            done = load().to_dict(orient="records") if as_json else remembered.listing(LISTED, load)
    except UserError:  # says how to make runs if there are none
        if not unfinished and not problems.found:
            raise
    problems.show()
    rest: list[dict[str, Any]] = [
        {
            "id": run.folder.name,
            **run.spec.to_dict(),
            "resumed_at": resumed_share(run.folder),
            "status": run.status,
            "error": run.error,
        }
        for run in unfinished
    ]
    if as_json:
        print_json([*({**row, "status": "done"} for row in done), *rest])
    labels = told_apart((row["dataset"], row["dataset_digest"]) for rows in (done, rest) for row in rows)
    mark = ("harness",) if len({row["harness"] for rows in (done, rest) for row in rows}) > 1 else ()
    for title, columns, found in (("Finished", DONE_COLUMNS, done), ("Unfinished", UNFINISHED_COLUMNS, rest)):
        if found and not as_json:
            shown = (*columns, *mark)
            rows = [[_text(column, _cell(column, row, labels)) for column in shown] for row in found]
            print_table(f"{title} runs in {folder}", shown, rows, numbers=(*NUMERIC_COLUMNS, "harness"))
    problems.exit()


def _cell(column: str, run: Mapping[Any, Any], labels: Mapping[tuple[str, str], str]) -> object:
    if column == "dataset":
        return labels[run["dataset"], run["dataset_digest"]]
    if column == "budget":
        from ncbench.budget import Budget

        return str(Budget(run["budget"], run["budget_unit"]))
    if column == "resumed at":
        share = run["resumed_at"]
        return "" if share is None or share != share else f"{share:.0%}"
    return run[column]


def _text(column: str, value: object) -> str:
    if value is None or value != value:
        return "-"
    if column in ("rsum", "seconds"):
        return f"{value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
