"""Compares the order of methods in two sets of runs, such as those of another dataset or another backbone.

Usage: python benchmarks/orders.py RUNS REFERENCE [--backbone saf] [--protocol shuffle-images]

Both are folders of records or submissions, such as leaderboards/submissions/photos.json and .../scenes.json. Prints, as
markdown and for each noise ratio that both have, the mean test rSum of the methods in both, and Kendall's tau between
them. Intervals hold 95 % of the values when the seeds of each method are drawn again in both. Only runs whose settings
nobody varied count, and only those at equal work; methods that see ground truth are left out.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
from agreement import compare, interval, means, redrawn

from ncbench import load_runs
from ncbench.records.gathered import records_folder


def usual(runs: pd.DataFrame, backbone: str | None, protocol: str) -> pd.DataFrame:
    """Return `method`, `noise`, `seed` and `rsum` of the runs that are compared.

    Raises UsageError unless they are of one dataset, backbone and budget.
    """
    rows = runs[(runs["variant"] == runs["method"]) & (runs["budget_unit"] == "epochs") & ~runs["sees_truth"]]
    rows = rows[rows["protocol"].isin([protocol, "clean"])]
    if backbone is not None:
        rows = rows[rows["backbone"] == backbone]
    for key in ("dataset", "backbone", "budget"):
        found = sorted(map(str, rows[key].unique()))
        if len(found) != 1:
            raise click.UsageError(f"expected runs of one {key} on either side, found {', '.join(found) or 'none'}")
    return rows[["method", "noise", "seed", "rsum"]]


@click.command()
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.option("--backbone", help="Compare runs of this backbone with the reference.")
@click.option("--protocol", default="shuffle-images", show_default=True)
def main(runs: Path, reference: Path, backbone: str | None, protocol: str) -> None:
    """Print the comparison; see the top of this file."""
    sides = [usual(load_runs(records_folder(runs)), backbone, protocol)]
    sides.append(usual(load_runs(records_folder(reference)), None, protocol))
    here, there = map(means, sides)
    samples = list(zip(redrawn(sides[0]), redrawn(sides[1], entropy=1), strict=True))
    for ratio in sorted({float(each) for each in here.columns} & {float(each) for each in there.columns}):
        both, tau, _ = compare(here[ratio], there[ratio])
        low, high = interval([compare(one[ratio], other[ratio])[1] for one, other in samples])
        click.echo(f"**{ratio:g}**: Kendall's tau {tau:.2f} ({low:.2f} to {high:.2f}) over {len(both)} methods\n")
        both.columns = ["here", "there"]
        ranks = both.rank(ascending=False, method="min").astype(int)
        click.echo("| method | rSum | rank | in the reference | rank |\n| --- | ---: | ---: | ---: | ---: |")
        for name, row in both.sort_values("here", ascending=False).iterrows():
            places = ranks.loc[name]
            click.echo(f"| `{name}` | {row['here']:.1f} | {places['here']} | {row['there']:.1f} | {places['there']} |")
        click.echo("")


if __name__ == "__main__":
    main()
