"""Our results in the terms of published ones: averaged over seeds, with all that a comparison must agree in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncbench.backbones.registry import members_of
from ncbench.budget import Budget
from ncbench.noise.ratio import CLEAN, NATURAL
from ncbench.records.table import with_recorded_ratios
from ncbench.report.tables.comparisons import AXES

PAPER_SIZES = {"embed": "1024", "similarity": "256", "word": "300"}
"""The published sizes of a backbone; other sizes of ours are shown. Rates of dropout are no sizes."""

NETS_TRAINED = {"ncr": 2, "bicro": 2, "mscn": 2, "coteaching": 2}
"""Networks whose similarities a method averages, where it is not one."""

_RSUMS = {"coco-1k-5fold": "folded", "coco-5k": "rsum_unfolded"}


@dataclass(frozen=True)
class Ours:
    """Our runs of one method under one set of axes: mean rSum, standard deviation (NaN for one seed), seeds.

    `nets` is the number of networks averaged. `epochs` says whether the budget counts the method's own epochs, as
    papers do, and `paper_sizes` whether the networks have the published sizes.
    """

    method: str
    backbone: str
    noise: float | None
    unit: str
    runs: str
    rsum: float
    std: float
    seeds: int
    nets: int = 1
    epochs: bool = False
    paper_sizes: bool = True


def our_results(frame: pd.DataFrame, dataset: str, evaluation: str) -> list[Ours]:
    """Return our results on a dataset, averaged over seeds, ordered by method, settings, axes and budget.

    Runs without the rSum of this evaluation are left out.
    """
    runs = with_recorded_ratios(frame[(frame["dataset"] == dataset) & ~frame["sees_truth"]])
    runs["folded"] = runs["rsum"].where(runs["rsum_unfolded"].notna())
    column = _RSUMS.get(evaluation, "rsum")
    runs = runs[runs[column].notna()]
    found = []
    for _, group in runs.groupby(["method", "variant", *AXES, "sizes"], sort=True):
        first = group.iloc[0]
        natural = first["protocol"] == NATURAL
        method, backbone = str(first["method"]), str(first["backbone"])
        found.append(
            Ours(
                method=method,
                backbone=backbone,
                noise=None if natural else float(first["noise"]),
                unit=str(first["unit"]) if natural or first["noise"] else CLEAN,
                runs=_runs(first.to_dict(), int(group["clean_pairs_given"].max())),
                rsum=float(group[column].mean()),
                std=float(group[column].std()),
                seeds=int(group["seed"].nunique()),
                nets=NETS_TRAINED.get(method, 1) * len(members_of(backbone)),
                epochs=first["budget_unit"] == "own-epochs",
                paper_sizes=has_paper_sizes(str(first["sizes"])),
            )
        )
    return found


def has_paper_sizes(sizes: str) -> bool:
    """Return whether `sizes`, as in the table of runs, are the published ones."""
    pairs = (item.partition("=") for item in sizes.split(", ") if item)
    return all(PAPER_SIZES.get(name, value) == value for name, _, value in pairs)


def _runs(row: dict[Any, Any], clean_pairs_given: int) -> str:
    """Return what distinguishes our runs beyond the columns of the table."""
    words = [] if row["variant"] == row["method"] else [str(row["variant"])]
    words += [str(row["backbone"])] if str(row["backbone"]).startswith("scan") else []
    words += [str(row["protocol"])] if row["noise"] else []
    words.append(f"budget {Budget(row['budget'], row['budget_unit'])}")
    words += [] if has_paper_sizes(str(row["sizes"])) else [str(row["sizes"])]
    words += [str(row["conditions"])] if row["conditions"] else []
    words += [f"given {clean_pairs_given} clean pairs"] if clean_pairs_given else []
    return ", ".join(words)
