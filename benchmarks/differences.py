"""Prints how the variants of a method differ from its preset, seed by seed.

Usage: python benchmarks/differences.py RUNS [--base VARIANT]

RUNS is a folder of records or a submission, such as leaderboards/submissions/scenes-apart.json. Prints, as markdown and
for each noise ratio, the mean test rSum of every variant, and the mean and standard deviation over seeds of its
difference from the run of the same method, ratio and seed that has the settings of the preset, or is of the variant
`--base`, named as in the first column.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from ncbench import load_runs
from ncbench.records.gathered import records_folder


def differences(runs: pd.DataFrame, base: str | None = None) -> pd.DataFrame:
    """Return a row per variant, and for each ratio its `mean`, `difference` and `std`; NaN without a preset."""
    chosen = runs[runs["variant"] == (runs["method"] if base is None else base)]
    preset = chosen.set_index(["method", "noise", "seed"])["rsum"]
    keys = pd.MultiIndex.from_frame(runs[["method", "noise", "seed"]])
    joined = runs.assign(difference=runs["rsum"].to_numpy() - preset.reindex(keys).to_numpy())
    grouped = joined.groupby(["variant", "noise"])
    found = grouped.agg(mean=("rsum", "mean"), difference=("difference", "mean"), std=("difference", "std"))
    return found.unstack("noise").swaplevel(axis=1).sort_index(axis=1)


@click.command()
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--base", help="The variant that others are compared with, instead of the preset.")
def main(runs: Path, base: str | None) -> None:
    """Print the table; see the top of this file."""
    rows = load_runs(records_folder(runs))
    if base is not None and base not in set(rows["variant"]):
        raise click.UsageError(f"expected one of {', '.join(sorted(rows['variant'].unique()))} as --base, found {base}")
    found = differences(rows, base)
    ratios = sorted(set(found.columns.get_level_values(0)))
    click.echo(f"| variant | {' | '.join(f'{ratio:g} | difference' for ratio in ratios)} |")
    click.echo("| --- |" + " ---: | ---: |" * len(ratios))
    for name, row in found.iterrows():
        cells = (f"{row[r, 'mean']:.1f} | {row[r, 'difference']:+.1f} ± {row[r, 'std']:.1f}" for r in ratios)
        click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
