"""A dataset in one table: rSum over noise ratios, what is left of it under noise, and what runs are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from ncbench.noise.ratio import CLEAN, NATURAL
from ncbench.report.tables.comparisons import conditions_in_words


@dataclass(frozen=True)
class Overview:
    """Mean rSum over seeds under one protocol, backbone and budget.

    `means` and `stds` are (variants, ratios), NaN where there is no run: the best average first, then those whose
    average lacks a ratio, references last. `seeds` (variants, ratios) counts runs; the largest count is what a cell
    should have.
    """

    title: str
    means: pd.DataFrame
    stds: pd.DataFrame
    seeds: pd.DataFrame
    references: frozenset[str]

    @property
    def average(self) -> pd.Series[float]:
        """Mean over the noisy ratios; NaN where one is missing, never an average over fewer."""
        return self.means[self._noisy].mean(axis=1, skipna=False)

    @property
    def kept(self) -> pd.Series[float]:
        """Share of the rSum on clean pairs that is left under noise, on average over ratios; NaN as for `average`."""
        if 0.0 not in self.means:
            return pd.Series(float("nan"), self.means.index)
        return self.average / self.means[0.0]

    @property
    def missing(self) -> list[str]:
        """What lacks, in words: per ratio the variants without a run, and those with fewer seeds than others have."""
        most = int(self.seeds.to_numpy().max())
        found = []
        for ratio in self.ratios:
            counts = self.seeds[ratio][self.seeds[ratio] < most]
            lacking = [
                f"{variant} ({most - int(n)} of {most} seeds)" if n else str(variant) for variant, n in counts.items()
            ]
            if lacking:
                found.append(f"at {ratio:g}: {', '.join(lacking)}")
        return found

    @property
    def ratios(self) -> list[float]:
        """The noise ratios, ascending."""
        return [float(str(ratio)) for ratio in self.means.columns]

    @property
    def _noisy(self) -> list[float]:
        return [ratio for ratio in self.ratios if ratio > 0]


def overviews(frame: pd.DataFrame) -> list[Overview]:
    """Return an overview per backbone, budget, protocol and other condition; clean runs belong to every protocol."""
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
        f"{protocol} (unit: {unit}), {conditions_in_words(key)}", means, stds, seeds.fillna(0).astype(int), references
    )
    order = pd.DataFrame({"reference": means.index.isin(references), "average": found.average}, means.index)
    order["part"] = order["average"].isna()
    # Where an average lacks, the mean over what there is decides the order among these, and nothing else.
    order["average"] = order["average"].fillna(means[found._noisy].mean(axis=1))
    names = order.sort_values(["reference", "part", "average"], ascending=[True, True, False], kind="stable").index
    return Overview(found.title, means.loc[names], stds.loc[names], found.seeds.loc[names], references)


def rows(overview: Overview) -> list[list[str]]:
    """Return the table as text, headings first: rSum at every ratio, their average, and the share that is left."""
    heads = ["method", *("clean" if ratio == 0 else f"{ratio:g}" for ratio in overview.ratios), "average", "kept"]
    numbers = zip(
        overview.means.index,
        overview.means.to_numpy(float),
        overview.stds.to_numpy(float),
        overview.average,
        overview.kept,
        strict=True,
    )
    body = []
    for variant, means, stds, average, kept in numbers:
        name = f"{variant} (told the truth)" if variant in overview.references else str(variant)
        cells = [_score(mean, std) for mean, std in zip(means, stds, strict=True)]
        body.append([name, *cells, _score(average), "-" if math.isnan(kept) else f"{kept:.0%}"])
    return [heads, *body]


def _score(mean: float, std: float = math.nan) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"
