"""A dataset in one table: rSum over noise ratios, the share retained under noise, and missing runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from ncbench.noise.ratio import CLEAN, NATURAL
from ncbench.records.table import failing
from ncbench.report.tables.comparisons import SEES_TRUTH, conditions_in_words

MOST_NAMED = 3
"""Of more variants that lack the same runs, those are named that do not lack them."""


@dataclass(frozen=True)
class Overview:
    """Mean rSum over seeds under one protocol, backbone and budget.

    `means` and `stds` are (variants, ratios), NaN without a run. The best average comes first, then variants that lack
    a ratio, then references. `seeds` (variants, ratios) counts runs; every cell is expected to have the largest count.
    `filters` are the values of the axes; `self_reported` says that these runs were trained outside ncbench.
    """

    title: str
    means: pd.DataFrame
    stds: pd.DataFrame
    seeds: pd.DataFrame
    references: frozenset[str]
    filters: Mapping[str, str] = field(default_factory=dict)
    self_reported: bool = False

    @property
    def average(self) -> pd.Series[float]:
        """Mean over the noisy ratios; NaN if one is missing."""
        return self.means[self._noisy].mean(axis=1, skipna=False)

    @property
    def retained(self) -> pd.Series[float]:
        """`average` as a share of the rSum on clean pairs; NaN if a ratio is missing."""
        if 0.0 not in self.means:
            return pd.Series(float("nan"), self.means.index)
        return self.average / self.means[0.0]

    @property
    def missing(self) -> list[str]:
        """Missing runs in words: per ratio, the variants without a run or with fewer seeds than others."""
        most = int(self.seeds.to_numpy().max())
        told = [(ratio, _missing(self.seeds[ratio], most)) for ratio in self.ratios]
        return [f"at {ratio:g}: {words}" for ratio, words in told if words]

    @property
    def ratios(self) -> list[float]:
        """The noise ratios, ascending."""
        return [float(str(ratio)) for ratio in self.means.columns]

    @property
    def _noisy(self) -> list[float]:
        return [ratio for ratio in self.ratios if ratio > 0]


def _missing(counts: pd.Series[int], most: int) -> str:
    """Return which variants have fewer than `most` runs, in words: those that have them all, if they are fewer."""
    short, complete = counts[counts < most], [str(name) for name in counts.index[counts == most]]
    if len(short) > max(MOST_NAMED, len(complete)) and short.nunique() == 1:
        count = int(short.iloc[0])
        seeds = f"{most - count} of {most} seeds of " if count else ""
        return f"{seeds}all but {', '.join(complete)}" if complete else f"{seeds}all"
    return ", ".join(f"{name} ({most - int(n)} of {most} seeds)" if n else str(name) for name, n in short.items())


def overviews(frame: pd.DataFrame) -> list[Overview]:
    """Return an overview per protocol, backbone, budget and conditions. Clean runs are part of each."""
    tables = []
    axes = ["backbone", "budget_unit", "allowance", "conditions"]
    for values, runs in frame.groupby(axes, sort=True):
        protocols = sorted(set(runs["protocol"]) - {CLEAN, NATURAL})
        for protocol in protocols:
            cells = runs[runs["protocol"].isin([protocol, CLEAN])]
            if cells["noise"].nunique() > 1:
                tables.append(_overview(cells, protocol, dict(zip(axes, values, strict=True))))
    return tables


def _overview(cells: pd.DataFrame, protocol: str, key: dict[str, object]) -> Overview:
    groups = cells.groupby(["variant", "noise"])["rsum"]
    means, stds, seeds = (table.unstack("noise") for table in (groups.mean(), groups.std(), groups.count()))
    references = frozenset(cells.loc[cells["sees_truth"], "variant"])
    unit = cells.loc[cells["protocol"] == protocol, "unit"].iloc[0]
    found = Overview(
        f"{protocol} (unit: {unit}), {conditions_in_words(key)}",
        means,
        stds,
        seeds.fillna(0).astype(int),
        references,
        {"backbone": str(key["backbone"]), "unit": str(unit), "protocol": protocol},
        key["budget_unit"] == "self-reported",
    )
    last = references | set(cells.loc[failing(cells), "variant"])  # neither ever counts as best
    order = pd.DataFrame({"reference": means.index.isin(last), "average": found.average}, means.index)
    order["incomplete"] = order["average"].isna()
    # Incomplete variants are ordered by the mean over the ratios they have.
    order["average"] = order["average"].fillna(means[found._noisy].mean(axis=1))
    names = order.sort_values(
        ["reference", "incomplete", "average"], ascending=[True, True, False], kind="stable"
    ).index
    return replace(found, means=means.loc[names], stds=stds.loc[names], seeds=found.seeds.loc[names])


def rows(overview: Overview) -> list[list[str]]:
    """Return the table as text, headings first: rSum at each ratio, their average, and the share retained."""
    ratios = ("clean" if ratio == 0 else f"{ratio:g}" for ratio in overview.ratios)
    columns = ["method", *ratios, "average", "retained"]
    numbers = zip(
        overview.means.index,
        overview.means.to_numpy(float),
        overview.stds.to_numpy(float),
        overview.average,
        overview.retained,
        strict=True,
    )
    body = []
    for variant, means, stds, average, retained in numbers:
        name = f"{variant} ({SEES_TRUTH})" if variant in overview.references else str(variant)
        cells = [_score(mean, std) for mean, std in zip(means, stds, strict=True)]
        body.append([name, *cells, _score(average), "-" if math.isnan(retained) else f"{retained:.0%}"])
    return [columns, *body]


def _score(mean: float, std: float = math.nan) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"
