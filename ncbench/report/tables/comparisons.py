"""Comparisons: runs that differ only in method and seed, averaged over seeds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import msgspec
import pandas as pd

from ncbench.budget import Budget
from ncbench.errors import UserError
from ncbench.evaluation.retrieval import Ranks
from ncbench.noise.ratio import noise_in_words
from ncbench.records.record import Record
from ncbench.records.table import failing, with_recorded_ratios
from ncbench.report.computed import Computed
from ncbench.report.tables.bootstrap import Bootstrap, Difference

AXES = ("dataset", "backbone", "budget_unit", "allowance", "protocol", "unit", "noise", "conditions")
RECALLS: tuple[str, ...] = tuple(f"{side}_{key}" for side in ("i2t", "t2i") for key in ("r1", "r5", "r10"))
COLUMNS = {
    "variant": "method",
    "place": "rank",
    "i2t_r1": "i2t R@1",
    "i2t_r5": "i2t R@5",
    "i2t_r10": "i2t R@10",
    "t2i_r1": "t2i R@1",
    "t2i_r5": "t2i R@5",
    "t2i_r10": "t2i R@10",
    "rsum": "rSum",
    "used": "budget used",
    "peak_bytes": "peak memory",
    "seconds": "training time",
    "overhead": "overhead",
    "seeds": "seeds",
}

RESULTS = ("variant", "place", "rsum", *RECALLS, "seeds")
COSTS = ("variant", "used", "seconds", "overhead", "peak_bytes", "seeds")
"""The columns of the two tables of a page."""

SEES_TRUTH = "sees ground truth"

UNMATCHED = {"own-epochs": "own epochs", "self-reported": "self-reported budget"}

SCORE_DECIMALS = 1  # scores that look equal count as equal

HIGH_OVERHEAD = 0.2  # share of the training time above which counted work understates the cost of a method


@dataclass(frozen=True)
class Comparison:
    """One table: methods under the same data, noise, backbone and budget.

    `rows` are means over seeds, best first. References, which see the ground truth, come last and never count as best;
    neither do runs that fail verification.
    `place` and `last_place` are the ranks that a contestant may have, NaN if its runs have no readable ranks.
    `runs` are the rows of `load_runs` that were averaged. `differences` are between contestants, the better one first.
    """

    key: dict[str, Any]
    rows: pd.DataFrame
    runs: pd.DataFrame
    differences: Mapping[tuple[str, str], Difference] = field(default_factory=dict)

    def difference(self, one: str, other: str) -> Difference | None:
        """Return how much better `one` is than `other`; None if it was not tested."""
        if (one, other) in self.differences:
            return self.differences[one, other]
        found = self.differences.get((other, one))
        return None if found is None else found.reversed

    @property
    def self_reported(self) -> bool:
        """Whether these are runs that were trained outside ncbench."""
        return bool(self.key["budget_unit"] == "self-reported")

    @property
    def contestants(self) -> list[str]:
        """The variants that are ranked, best first: all but references."""
        return [str(name) for name in self._contestants["variant"]]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        unit = f" (unit: {self.key['unit']})" if self.key["noise"] else ""
        return f"{self.key['dataset']}: {self.noise}{unit}, {conditions_in_words(self.key)}"

    @property
    def noise(self) -> str:
        """Noise protocol and ratio, in words."""
        return noise_in_words(self.key["protocol"], self.key["noise"])

    def best(self, column: str) -> float:
        """Return the best value of a score; NaN if there are only references."""
        return float(self._contestants[column].max())

    def second(self, column: str) -> float:
        """Return the second best value after rounding; NaN if there is none."""
        rounded = sorted(set(self._contestants[column].round(SCORE_DECIMALS)), reverse=True)
        return float(rounded[1]) if len(rounded) > 1 else float("nan")

    @property
    def _contestants(self) -> pd.DataFrame:
        return self.rows[~self.rows["sees_truth"] & ~self.rows["fails"]]

    def mark(self, row: Mapping[Hashable, Any], column: str) -> Literal["best", "second"] | None:
        """Return whether the score of a row is the best or second best among contestants, after rounding."""
        if column not in scores() or row["sees_truth"] or row["fails"]:
            return None
        score = _rounded(row[column])
        if score == _rounded(self.best(column)):
            return "best"
        return "second" if score == _rounded(self.second(column)) else None

    def cells(self, columns: Iterable[str] = tuple(COLUMNS)) -> list[list[str]]:
        """Return `columns` of the table as text."""
        shown = tuple(columns)
        return [[self.cell(row, column) for column in shown] for row in self.rows.to_dict(orient="records")]

    def cell(self, row: Mapping[Hashable, Any], column: str) -> str:
        """Return a cell of the table as text."""
        return _text(column, row)


def conditions_in_words(key: Mapping[str, Any]) -> str:
    """Return the backbone, budget and other conditions of compared runs."""
    if key["allowance"]:
        budget = f"budget {Budget(key['allowance'], key['budget_unit'])}"
    else:
        budget = f"{UNMATCHED[key['budget_unit']]}, not compute-matched"
    return ", ".join(filter(None, [key["backbone"], budget, key["conditions"]]))


class Tested(msgspec.Struct, frozen=True):
    """The first and the last place of each contestant, and how much better one is than another, for pairs of them."""

    places: dict[str, tuple[int, int]]
    differences: list[tuple[str, str, Difference]]


def comparisons(frame: pd.DataFrame, computed: Computed | None = None) -> list[Comparison]:
    """Return the comparisons among the runs of `frame` (of `load_runs`), ordered by AXES.

    `computed` is what earlier reports computed.
    """
    tables, computed = [], computed or Computed()
    for values, runs in with_recorded_ratios(frame).groupby(list(AXES), sort=True):
        groups = runs.groupby("variant", sort=True)
        numbers = groups[[*RECALLS, "rsum", "used", "peak_bytes", "seconds", "overhead"]].mean()
        numbers["rsum_std"] = groups["rsum"].std()
        numbers["seeds"] = groups["seed"].nunique()
        numbers["sees_truth"] = groups["sees_truth"].any()
        numbers["fails"] = runs.assign(fails=failing(runs)).groupby("variant", sort=True)["fails"].any()
        numbers["clean_pairs_given"] = groups["clean_pairs_given"].max()
        rsums = {str(name): float(rsum) for name, rsum in numbers["rsum"].items()}
        tested = computed.value("tested", runs, Tested, partial(_tested, runs, rsums))
        for number, column in enumerate(("place", "last_place")):
            numbers[column] = pd.Series({name: place[number] for name, place in tested.places.items()}, dtype=float)
        order = ["sees_truth", "fails", "rsum", "variant"]
        rows = numbers.reset_index().sort_values(order, ascending=[True, True, False, True])
        differences = {(one, other): found for one, other, found in tested.differences}
        tables.append(Comparison(dict(zip(AXES, values, strict=True)), rows, runs, differences))
    return tables


def _tested(runs: pd.DataFrame, rsums: Mapping[str, float]) -> Tested:
    """Return which contestants among `runs` differ; `rsums` are the means by variant."""
    bootstrap = Bootstrap(_ranks(runs))
    contestants = {name: rsums[name] for name in bootstrap.ranks}
    places = bootstrap.places(contestants)
    ordered = sorted(contestants, key=lambda name: (-contestants[name], name))
    pairs = ((one, other, bootstrap.difference(one, other)) for one, other in combinations(ordered, 2))
    return Tested(places, [(one, other, found) for one, other, found in pairs if found is not None])


def _ranks(runs: pd.DataFrame) -> dict[str, dict[int, Ranks]]:
    """Return the ranks of contestants by seed, without variants of which a run fails or has no readable ranks."""
    ranks: dict[str, dict[int, Ranks]] = {}
    excluded = set(runs.loc[runs["sees_truth"] | failing(runs), "variant"])
    for variant, seed, folder in zip(runs["variant"], runs["seed"], runs["folder"], strict=True):
        try:
            ranks.setdefault(variant, {})[seed] = Record(Path(folder)).ranks["test"]
        except UserError:
            excluded.add(variant)
    return {name: held for name, held in ranks.items() if name not in excluded}


def _text(column: str, row: Mapping[Hashable, Any]) -> str:
    value = row[column]
    if column == "variant":
        if row["sees_truth"]:
            return f"{value} ({SEES_TRUTH})"
        return f"{value} (given {row['clean_pairs_given']} clean pairs)" if row["clean_pairs_given"] else str(value)
    if column == "place":
        if pd.isna(value):
            return "-"
        first, last = int(value), int(row["last_place"])
        return str(first) if first == last else f"{first}\N{EN DASH}{last}"
    if column == "seeds":
        return str(int(value))
    if pd.isna(value):
        return "-"
    if column == "peak_bytes":
        return f"{value / 2**20:,.0f} MiB"
    if column == "seconds":
        return f"{value:,.0f} s"
    if column == "overhead":
        return f"{value:.0%}" + (" (!)" if value > HIGH_OVERHEAD else "")
    if column == "used":
        return f"{value:.2f}"
    if column == "rsum" and not pd.isna(row["rsum_std"]):
        return f"{value:.1f} ± {row['rsum_std']:.1f}"
    return f"{value:.1f}"


def _rounded(score: float) -> str:
    """Return a score as it is shown."""
    return f"{score:.{SCORE_DECIMALS}f}"


def scores() -> Sequence[str]:
    """Return the columns in which higher is better."""
    return [*RECALLS, "rsum"]
