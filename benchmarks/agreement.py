"""Compares what methods do on `scenes` with what is published for them on Flickr30K: facts, and the order by ratio.

Usage: python benchmarks/agreement.py [--runs leaderboards/scenes/runs.csv] [--backbone vse-infinity] [--budget 5] [...]

Prints, as markdown, which published facts are seen here, and for each ratio the mean test rSum of both and Kendall's
tau between them. Intervals hold 95 % of the values when seeds are drawn again, with replacement, method by method.

A fact is a set of statements that all hold in the published table, such as "at 0.4, `triplet` has at most 0.85 times
the rSum of `decl`". Its thresholds were read from that table, not from our runs. It is *seen* if all of its statements
hold here, seen *in part* if at least half of them do.

Published results are those of leaderboards/published.csv; SOURCES selects one source per method. These tables reprint
numbers of both noise units in one column (`ncbench report --published f30k` shows which are known), so the published
order is what a reader of these tables sees, not a result under one kind of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import click
import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ncbench.budget import Budget

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

PLAIN = "triplet"
DRAWS = 1000

Scores: TypeAlias = pd.DataFrame
"""Mean rSum by method (rows) and noise ratio (columns), NaN if missing."""


@dataclass(frozen=True)
class Fact:
    """A fact of the published table: what it says, and which of its statements hold in a table of scores."""

    words: str
    statements: Callable[[Scores], Sequence[bool]]

    def share(self, scores: Scores) -> float:
        """Return the share of the statements that hold; NaN if none can be judged."""
        found = self.statements(scores)
        return float(np.mean(found)) if len(found) else float("nan")


def at_most(
    scores: Scores, share: float, one: Sequence[tuple[str, float]], other: Sequence[tuple[str, float]]
) -> list[bool]:
    """Return whether each score of `one` is at most `share` times that of `other`, without those that are missing."""
    known = [
        (scores.at[a, x], scores.at[b, y])
        for (a, x), (b, y) in zip(one, other, strict=True)
        if a in scores.index and b in scores.index and x in scores and y in scores
    ]
    return [bool(here <= share * there) for here, there in known if here == here and there == there]


def robust(scores: Scores) -> list[str]:
    """Return the methods against noise."""
    return [str(name) for name in scores.index if name != PLAIN]


def _below(ratios: Sequence[float], share: float) -> Callable[[Scores], list[bool]]:
    """Plain training has at most `share` of the score of every robust method."""

    def hold(scores: Scores) -> list[bool]:
        cells = [(name, ratio) for ratio in ratios for name in robust(scores)]
        return at_most(scores, share, [(PLAIN, ratio) for _, ratio in cells], cells)

    return hold


def _close(ratios: Sequence[float], share: float) -> Callable[[Scores], list[bool]]:
    """Every robust method has at least `share` of the best score."""

    def hold(scores: Scores) -> list[bool]:
        best = {ratio: scores.loc[robust(scores), ratio].max() for ratio in ratios if ratio in scores}
        cells = [(name, ratio) for ratio in best for name in robust(scores)]
        return [bool(scores.at[cell] >= share * best[cell[1]]) for cell in cells if scores.at[cell] == scores.at[cell]]

    return hold


def _falls(names: Sequence[str], start: float, end: float, share: float) -> Callable[[Scores], list[bool]]:
    """At `end`, these methods have at most `share` of their score at `start`."""
    return lambda scores: at_most(scores, share, [(name, end) for name in names], [(name, start) for name in names])


def _stands(names: Sequence[str] | None, start: float, end: float, share: float) -> Callable[[Scores], list[bool]]:
    """At `end`, these methods (all robust ones if None) have at least `share` of their score at `start`."""

    def hold(scores: Scores) -> list[bool]:
        chosen = robust(scores) if names is None else names
        return at_most(scores, 1 / share, [(name, start) for name in chosen], [(name, end) for name in chosen])

    return hold


def _leads(name: str, ratios: Sequence[float]) -> Callable[[Scores], list[bool]]:
    """This method is the best."""

    def hold(scores: Scores) -> list[bool]:
        known = [ratio for ratio in ratios if ratio in scores and name in scores.index]
        return [bool(scores.at[name, ratio] == scores[ratio].max()) for ratio in known]

    return hold


FACTS: Sequence[Fact] = (
    Fact(
        "at 0.4 and 0.6, plain training is far below every robust method (0.85 times at most)", _below((0.4, 0.6), 0.85)
    ),
    Fact("from 0.2 to 0.6, plain training loses 30 % or more", _falls((PLAIN,), 0.2, 0.6, 0.7)),
    Fact("up to 0.6, robust methods are within 6 % of the best", _close((0.2, 0.4, 0.6), 0.94)),
    Fact("from 0.2 to 0.6, robust methods keep 90 % or more", _stands(None, 0.2, 0.6, 0.9)),
    Fact(
        "at 0.8, `ncr`, `bicro` and `mscn` collapse (below a quarter of 0.2)",
        _falls(("ncr", "bicro", "mscn"), 0.2, 0.8, 0.25),
    ),
    Fact("at 0.8, `decl`, `rcl` and `l2rm` keep 70 % or more of 0.2", _stands(("decl", "rcl", "l2rm"), 0.2, 0.8, 0.7)),
    Fact("at 0.8, `l2rm` is the best", _leads("l2rm", (0.8,))),
    Fact("up to 0.6, `gsc` is the best", _leads("gsc", (0.2, 0.4, 0.6))),
)


def published(path: Path) -> pd.DataFrame:
    """Return published rSum by method (rows) and noise ratio (columns), NaN if missing."""
    rows = pd.read_csv(path)
    rows = rows[(rows["dataset"] == DATASET) & (rows["noise_kind"] == "shuffle")]
    series = {
        name: rows[(rows["method"] == source.method) & (rows["paper"] == source.paper)].set_index("noise")["rsum"]
        for name, source in SOURCES.items()
    }
    return pd.DataFrame(series).T


def ours(path: Path, backbone: str, budget: Budget, protocol: str) -> pd.DataFrame:
    """Return `method`, `noise`, `seed` and `rsum` of runs of published methods. Raises ClickException without runs."""
    rows = pd.read_csv(path)
    named = rows["method"] + ("" if budget.matched else f" ({budget.amount:g} own epochs)")  # no setting was changed
    rows = rows[(rows["backbone"] == backbone) & (rows["variant"] == named)]
    rows = rows[(rows["budget"] == budget.amount) & (rows["budget_unit"] == budget.unit)]
    rows = rows[rows["protocol"].isin([protocol, "clean"])]
    if rows.empty:
        raise click.ClickException(f"{path} has no runs of {backbone} at budget {budget} under {protocol}.")
    return rows.loc[rows["method"].isin(SOURCES), ["method", "noise", "seed", "rsum"]]


def means(runs: pd.DataFrame) -> Scores:
    """Return the mean over seeds."""
    return runs.pivot_table(index="method", columns="noise", values="rsum")


def redrawn(runs: pd.DataFrame, draws: int = DRAWS, entropy: int = 0) -> list[Scores]:
    """Return the means of `draws` samples in which the seeds of each method are drawn again, with replacement."""
    rng, tables = np.random.default_rng(entropy), {}
    for name, own in runs.groupby("method"):
        by_seed = own.pivot_table(index="seed", columns="noise", values="rsum")
        picks = rng.integers(len(by_seed), size=(draws, len(by_seed)))
        with np.errstate(invalid="ignore"):
            tables[str(name)] = pd.DataFrame(np.nanmean(by_seed.to_numpy()[picks], axis=1), columns=by_seed.columns)
    return [pd.DataFrame({name: table.loc[draw] for name, table in tables.items()}).T for draw in range(draws)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval that holds 95 % of the values; NaN without values."""
    known = np.array([value for value in values if value == value])
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def verdict(share: float) -> str:
    """Return whether a fact is seen."""
    if share != share:
        return "not tested"
    return "seen" if share == 1 else "in part" if share >= 0.5 else "not seen"


def facts_table(runs: pd.DataFrame, samples: Sequence[Scores]) -> list[str]:
    """Return which facts are seen, as lines of markdown: the share of statements that hold, and its interval."""
    lines = [
        "| published fact | here | statements that hold | when seeds are drawn again |",
        "| --- | --- | ---: | ---: |",
    ]
    scores = means(runs)
    for fact in FACTS:
        share, count = fact.share(scores), len(fact.statements(scores))
        low, high = interval([fact.share(sample) for sample in samples])
        told = f"{round(share * count)} of {count} | {low:.0%} to {high:.0%}" if count else "- | -"
        lines.append(f"| {fact.words} | {verdict(share)} | {told} |")
    return lines


def compare(here: pd.Series[float], there: pd.Series[float]) -> tuple[pd.DataFrame, float, float]:
    """Return the rSum of the methods in both, best published first, Kendall's tau-b and its two-sided p-value."""
    both = pd.DataFrame({"ours": here, "published": there}).dropna().sort_values("published", ascending=False)
    tau, p = kendalltau(both["ours"], both["published"])
    return both, float(tau), float(p)


def as_markdown(ratio: float, both: pd.DataFrame, tau: float, p: float, taus: Sequence[float]) -> str:
    """Return the comparison at one ratio as a summary line and a table; `taus` are those of other samples of seeds."""
    low, high = interval(taus)
    lines = [
        f"**{ratio:g}**: Kendall's tau {tau:.2f} ({low:.2f} to {high:.2f}) over {len(both)} methods (p = {p:.2f})",
        "",
    ]
    lines += ["| method | published | rank | ours | rank |", "| --- | ---: | ---: | ---: | ---: |"]
    ranks = both.rank(ascending=False, method="min").astype(int)
    for name, there, here, rank_there, rank_here in zip(
        both.index, both["published"], both["ours"], ranks["published"], ranks["ours"], strict=True
    ):
        lines.append(f"| {name} | {there:.1f} | {rank_there} | {here:.1f} | {rank_here} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--runs", default=RUNS, type=click.Path(path_type=Path), show_default=True)
@click.option("--backbone", default="vse-infinity", show_default=True)
@click.option("--budget", default="5", show_default=True, help="As in `ncbench run`, such as 5 or 5own-epochs.")
@click.option("--protocol", default="shuffle-images", show_default=True)
def main(runs: Path, backbone: str, budget: str, protocol: str) -> None:
    """Print the comparison."""
    found, there = ours(runs, backbone, Budget.parse(budget), protocol), published(LEADERBOARDS / "published.csv")
    here, samples = means(found), redrawn(found)
    click.echo("\n".join([*facts_table(found, samples), ""]))
    for ratio in sorted({float(column) for column in here.columns} & {float(column) for column in there.columns}):
        both, tau, p = compare(here[ratio], there[ratio])
        if len(both) > 1:
            taus = [compare(sample[ratio], there[ratio])[1] for sample in samples]
            click.echo(as_markdown(ratio, both, tau, p, taus))


if __name__ == "__main__":
    main()
