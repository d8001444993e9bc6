"""Compares the order of methods on `scenes` with their published order on Flickr30K, by noise ratio.

Usage: python benchmarks/agreement.py [--runs leaderboards/scenes/runs.csv] [--backbone sgr] [--budget 5] [...]

Prints, as markdown, the mean test rSum of both and Kendall's tau between them. Published results are those of
leaderboards/published.csv; SOURCES selects one source per method. These tables reprint numbers of both noise units in
one column (`ncbench report --published f30k` shows which are known), so the published order is what a reader of these
tables sees, not a result under one kind of noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd
from scipy.stats import kendalltau

LEADERBOARDS = Path(__file__).parents[1] / "leaderboards"
RUNS = LEADERBOARDS / "scenes" / "runs.csv"
UCPM = "UCPM (IEEE TIP 2025, tables of the 2024 repository)"
DATASET = "f30k"


@dataclass(frozen=True)
class Source:
    """The published rows of a method: their `method` and their `paper`."""

    method: str
    paper: str


SOURCES: Mapping[str, Source] = {
    "triplet": Source("sgr", UCPM),
    "ncr": Source("ncr", UCPM),
    "decl": Source("decl", UCPM),
    "bicro": Source("bicro", UCPM),
    "mscn": Source("mscn", UCPM),
    "rcl": Source("rcl", UCPM),
    "l2rm": Source("l2rm", UCPM),
    "gsc": Source("gsc", "IN2R (ICML 2026)"),
    "crcl": Source("crcl", "MGCS (AAAI 2026)"),
}
"""One paper's tables where they include a method, other papers for the rest."""


def published(path: Path) -> pd.DataFrame:
    """Return published rSum by method (rows) and noise ratio (columns), NaN if missing."""
    rows = pd.read_csv(path)
    rows = rows[(rows["dataset"] == DATASET) & (rows["noise_kind"] == "shuffle")]
    series = {
        name: rows[(rows["method"] == source.method) & (rows["paper"] == source.paper)].set_index("noise")["rsum"]
        for name, source in SOURCES.items()
    }
    return pd.DataFrame(series).T


def ours(path: Path, backbone: str, budget: float, protocol: str) -> pd.DataFrame:
    """Return mean rSum over seeds by method (rows) and noise ratio (columns). Raises ClickException without runs."""
    rows = pd.read_csv(path)
    rows = rows[(rows["backbone"] == backbone) & (rows["variant"] == rows["method"])]
    rows = rows[(rows["budget"] == budget) & (rows["budget_unit"] == "epochs")]
    rows = rows[rows["protocol"].isin([protocol, "clean"])]
    if rows.empty:
        raise click.ClickException(f"{path} has no runs of {backbone} at budget {budget:g} under {protocol}.")
    return rows.pivot_table(index="method", columns="noise", values="rsum")


def compare(here: pd.Series[float], there: pd.Series[float]) -> tuple[pd.DataFrame, float, float]:
    """Return the rSum of the methods in both, best published first, Kendall's tau-b and its two-sided p-value."""
    both = pd.DataFrame({"ours": here, "published": there}).dropna().sort_values("published", ascending=False)
    tau, p = kendalltau(both["ours"], both["published"])
    return both, float(tau), float(p)


def as_markdown(ratio: float, both: pd.DataFrame, tau: float, p: float) -> str:
    """Return the comparison at one ratio as a summary line and a table."""
    lines = [f"**{ratio:g}**: Kendall's tau {tau:.2f} over {len(both)} methods (p = {p:.2f})", ""]
    lines += ["| method | published | rank | ours | rank |", "| --- | ---: | ---: | ---: | ---: |"]
    ranks = both.rank(ascending=False, method="min").astype(int)
    for name, there, here, rank_there, rank_here in zip(
        both.index, both["published"], both["ours"], ranks["published"], ranks["ours"], strict=True
    ):
        lines.append(f"| {name} | {there:.1f} | {rank_there} | {here:.1f} | {rank_here} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--runs", default=RUNS, type=click.Path(path_type=Path), show_default=True)
@click.option("--backbone", default="sgr", show_default=True)
@click.option("--budget", default=5.0, show_default=True)
@click.option("--protocol", default="shuffle-images", show_default=True)
def main(runs: Path, backbone: str, budget: float, protocol: str) -> None:
    """Print the comparison."""
    here, there = ours(runs, backbone, budget, protocol), published(LEADERBOARDS / "published.csv")
    for ratio in sorted({float(column) for column in here.columns} & {float(column) for column in there.columns}):
        both, tau, p = compare(here[ratio], there[ratio])
        if len(both) > 1:
            click.echo(as_markdown(ratio, both, tau, p))


if __name__ == "__main__":
    main()
