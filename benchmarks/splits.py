"""Prints how well methods tell clean from mismatched pairs at their first and their last dev evaluation that says so.

Usage: python benchmarks/splits.py RUNS [--noise 0.8] [--protocol shuffle-images] [--budget 5]

RUNS is a folder of records or a submission. Prints, as markdown, means over the seeds of each method: AUC of P(clean)
at both evaluations, the share of its training work that was spent by the first, and the calibration error at the last.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from ncbench.records.gathered import records_folder
from ncbench.records.table import load_runs
from ncbench.report.figures.training_curves import load_training_curves

COLUMNS = ("method", "first", "at share of the budget", "last", "calibration error, last", "seeds")


def first_and_last(curves: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run of `curves` (of `load_training_curves`) that states P(clean): both AUC, share, error."""
    stated = curves[curves["auc"].notna()].sort_values("work").groupby("id")
    spent = curves.groupby("id")["work"].max()
    first, last = stated.first(), stated.last()
    return pd.DataFrame(
        {
            "first": first["auc"],
            "share": first["work"] / spent.loc[first.index],
            "last": last["auc"],
            "error": last["calibration_error"],
        }
    )


@click.command()
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--noise", default=0.8, show_default=True)
@click.option("--protocol", default="shuffle-images", show_default=True)
@click.option("--budget", default=5.0, show_default=True)
def main(runs: Path, noise: float, protocol: str, budget: float) -> None:
    """Print the table; see the top of this file."""
    folder = records_folder(runs)
    frame = load_runs(folder)
    frame = frame[(frame["noise"] == noise) & (frame["protocol"] == protocol) & (frame["allowance"] == budget)]
    found = first_and_last(load_training_curves([folder], only=frozenset(frame["folder"])))
    joined = frame.set_index("id")[["variant"]].join(found, how="inner")
    means = joined.groupby("variant").agg(["mean", "count"])
    click.echo(f"| {' | '.join(COLUMNS)} |\n| --- | {' | '.join(['---:'] * (len(COLUMNS) - 1))} |")
    for name, row in means.sort_values(("last", "mean"), ascending=False).iterrows():
        cells = (row["first"]["mean"], row["share"]["mean"], row["last"]["mean"], row["error"]["mean"])
        first, share, last, error = map(float, cells)
        click.echo(f"| `{name}` | {first:.2f} | {share:.0%} | {last:.2f} | {error:.2f} | {row['last']['count']:.0f} |")


if __name__ == "__main__":
    main()
