"""Retrieval of all that fits beside the usual scores, and whether forgiving false negatives changes the order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ncbench.report.tables.comparisons import Comparison

COLUMNS = {
    "variant": "method",
    "rsum": "rSum",
    "i2t_map_at_r": "i2t mAP@R",
    "t2i_map_at_r": "t2i mAP@R",
    "i2t_r_precision": "i2t R-precision",
    "t2i_r_precision": "t2i R-precision",
    "i2t_forgiven": "i2t wrong firsts that fit",
    "t2i_forgiven": "t2i wrong firsts that fit",
}
SCORES = ("i2t_map_at_r", "t2i_map_at_r", "i2t_r_precision", "t2i_r_precision", "i2t_forgiven", "t2i_forgiven")
MIN_METHODS = 3  # of fewer, an order says little


@dataclass(frozen=True)
class FittingTable:
    """The scores for all that fits, as text, of the methods of a comparison in its order, and what their order says."""

    rows: Sequence[Sequence[str]]
    sentence: str


def fitting_table(table: Comparison) -> FittingTable | None:
    """Return the scores for all that fits in a comparison, means over seeds; None without a run that has them."""
    runs = table.runs
    if "map_at_r" not in runs or runs["map_at_r"].isna().all():
        return None
    named = [*SCORES, "map_at_r", "i2t_r1", "t2i_r1", "i2t_r1_fitting", "t2i_r1_fitting"]
    means = runs.groupby("variant")[named].agg(_mean_of_all)
    rows = []
    for row in table.rows.to_dict(orient="records"):
        shown = (table.cell(row, column) for column in ("variant", "rsum"))
        scores = (float(means[name][str(row["variant"])]) for name in SCORES)
        rows.append([*shown, *("-" if math.isnan(score) else f"{score:.1f}" for score in scores)])
    return FittingTable(rows, _sentence(table, means))


def rank_agreement(one: pd.Series[float], other: pd.Series[float]) -> float:
    """Return Kendall's tau-b between two scores of the same methods, in [-1, 1]; NaN if all are equal in one."""
    from scipy.stats import kendalltau

    return float(kendalltau(one.to_numpy(), other.loc[one.index].to_numpy()).statistic)


def _mean_of_all(values: pd.Series[float]) -> float:
    """Return the mean, NaN if a value is missing: runs of other seeds would not be comparable."""
    return float(values.astype(float).mean(skipna=False))


def _sentence(table: Comparison, means: pd.DataFrame) -> str:
    """Say whether methods come in another order when first hits that fit are forgiven, and by mAP@R."""
    names = [name for name in table.contestants if not math.isnan(means["map_at_r"][name])]
    if len(names) < MIN_METHODS:
        return ""
    scores = means.loc[names]
    rsum = table.rows.set_index("variant")["rsum"].loc[names]
    before, after = (scores[f"i2t_{key}"] + scores[f"t2i_{key}"] for key in ("r1", "r1_fitting"))
    return (
        f"{_change('forgiving wrong first hits that fit', before, after, 'R@1')} "
        f"{_change('ranking by mAP@R instead of rSum', rsum, scores['map_at_r'], 'rSum')}"
    )


def _change(what: str, before: pd.Series[float], after: pd.Series[float], by: str) -> str:
    """Say whether `what` changes the order of methods, and of which neighbours."""
    tau, count = rank_agreement(before, after), len(before)
    begin = f"{what[0].upper()}{what[1:]}"
    order, new = (list(each.sort_values(ascending=False, kind="stable").index) for each in (before, after))
    if math.isnan(tau):
        return f"{begin} cannot be judged: all {count} methods are equal."
    if order == new:
        return f"{begin} leaves the order of the {count} methods by {by} as it is (Kendall's tau {tau:.2f})."
    moved = max(order, key=lambda name: abs(order.index(name) - new.index(name)))
    places = f"{moved} moves most, from place {order.index(moved) + 1} to {new.index(moved) + 1}"
    return f"{begin} changes the order of the {count} methods by {by}: Kendall's tau is {tau:.2f}, and {places}."
