"""Prints how well methods tell clean from mismatched pairs at their first and their last dev evaluation that says so.

Usage: python benchmarks/splits.py RUNS [--noise 0.8] [--protocol shuffle-images] [--budget 5]

RUNS is a folder of records or a submission. Prints, as markdown, means over the seeds of each method: AUC of P(clean)
at both evaluations, the share of its training work that was spent by the first, and the calibration error at the last;
and the share of clean pairs among those with P(clean) of at least 0.5 at the end of training.
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import pandas as pd

from ncbench.evaluation.beliefs import Detection
from ncbench.records.gathered import records_folder
from ncbench.records.record import Record
from ncbench.records.table import load_runs
from ncbench.report.figures.training_curves import load_training_curves

COLUMNS = ("method", "first", "at share of the budget", "last", "calibration error, last", "clean among kept", "seeds")

MEANS = ("first", "share", "last", "error", "kept")


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


def clean_among_kept(found: Detection) -> float:
    """Return the share of clean pairs among those that are not flagged as mismatched.

    NaN if all pairs are flagged, and if only clean ones are, since nobody wrote down how many.
    """
    if found.precision == 0:
        return float("nan")
    hits = (found.recall or 0.0) * found.mismatched
    kept = round(found.pairs - (hits / found.precision if found.precision else 0))
    return 1 - (found.mismatched - hits) / kept if kept else float("nan")


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
    stated = frame[frame["id"].isin(found.index)]
    detections = [Record(Path(str(folder))).result.beliefs.detection for folder in stated["folder"]]
    kept = [clean_among_kept(one) if one else float("nan") for one in detections]
    joined = stated.assign(kept=kept).set_index("id")[["variant", "kept"]].join(found, how="inner")
    means = joined.groupby("variant").agg(["mean", "count"])
    click.echo(f"| {' | '.join(COLUMNS)} |\n| --- | {' | '.join(['---:'] * (len(COLUMNS) - 1))} |")
    for name, row in means.sort_values(("last", "mean"), ascending=False).iterrows():
        first, share, last, error, kept = (
            float(row[key]["mean"]) for key in ("first", "share", "last", "error", "kept")
        )
        pure = "-" if math.isnan(kept) else f"{kept:.0%}"
        seeds = f"{row['last']['count']:.0f}"
        click.echo(f"| `{name}` | {first:.2f} | {share:.0%} | {last:.2f} | {error:.2f} | {pure} | {seeds} |")


if __name__ == "__main__":
    main()
