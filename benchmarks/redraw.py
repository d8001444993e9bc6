"""Redraws the figures of a leaderboard that need nothing but its runs.csv: rSum against noise, and average ranks.

Usage: python benchmarks/redraw.py leaderboards/scenes

For changes to the drawing code when the run records are not available. `ncbench report` draws all figures.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from ncbench.noise.ratio import NATURAL
from ncbench.report import FIGURES_FOLDER, RUNS_FILE
from ncbench.report.figures.noise_curves import draw_curves_by_method, draw_noise_curves
from ncbench.report.figures.ranks import draw_ranking, rank_methods


def read_runs(path: Path) -> pd.DataFrame:
    """Return the table in runs.csv as `load_runs` returned it, without the folders."""
    frame = pd.read_csv(path, dtype={"conditions": str})
    frame["conditions"] = frame["conditions"].fillna("")
    return frame


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Redraw the figures in FOLDER/figures."""
    runs, figures = read_runs(folder / RUNS_FILE), folder / FIGURES_FOLDER
    synthetic = runs[runs["protocol"] != NATURAL]
    written = draw_noise_curves(synthetic, figures / "rsum")
    written += draw_curves_by_method(synthetic, figures / "rsum-by-method")
    ranking = rank_methods(runs)
    if ranking is not None:
        written += draw_ranking(ranking, figures / "ranks")
    for path in written:
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
