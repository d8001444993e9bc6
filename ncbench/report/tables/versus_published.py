"""Published results next to ours: same method, backbone, evaluation, noise ratio and noise unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncbench.budget import Budget
from ncbench.errors import UserError
from ncbench.noise.ratio import CLEAN, NATURAL
from ncbench.records.table import with_recorded_ratios
from ncbench.report.tables.comparisons import AXES, RECALLS
from ncbench.report.tables.published import EVALUATIONS, Published, read_published

COLUMNS = (
    "method",
    "backbone",
    "i2t R@1, 5, 10",
    "t2i R@1, 5, 10",
    "rSum",
    "source",
    "networks",
    "flags",
    "our rSum",
    "seeds",
    "our runs",
    "difference",
)
NUMERIC_COLUMNS = (*COLUMNS[2:5], "networks", "our rSum", "seeds", "difference")

PLAIN_BACKBONES = ("sgr", "saf", "sgraf", "vse-infinity", "scan")
"""Published methods that are plain backbones, trained as by their authors; compared with our `triplet`."""

PAPER_SIZES = "embed=1024, similarity=256, word=300"
"""The published sizes of a backbone; other sizes of ours are shown."""

_RSUMS = {"coco-1k-5fold": "folded", "coco-5k": "rsum_unfolded"}
_UNITS = ("clean", "natural", "images", "captions", "unknown")


@dataclass(frozen=True)
class Ours:
    """Our runs of one method under one set of axes: mean rSum, standard deviation (NaN for one seed), seeds."""

    method: str
    backbone: str
    noise: float | None
    unit: str
    runs: str
    rsum: float
    std: float
    seeds: int


@dataclass(frozen=True)
class ComparedResult:
    """A published result and the matching one of ours, if any."""

    published: Published
    ours: Ours | None

    @property
    def difference(self) -> float | None:
        """Our rSum minus the published one; None without ours."""
        return None if self.ours is None else self.ours.rsum - self.published.rsum

    def facts(self) -> dict[str, Any]:
        """Return all values, ready for JSON."""
        row, ours = self.published, self.ours
        scores = dict(zip(RECALLS, row.recalls, strict=True))
        return {
            "dataset": row.dataset,
            "eval": row.evaluation,
            "noise": row.noise,
            "unit": row.unit,
            "method": row.method,
            "backbone": row.backbone,
            **scores,
            "rsum": row.rsum,
            "paper": row.paper,
            "table": row.table,
            "nets": row.nets,
            "flags": row.flags,
            "notes": row.notes,
            "our_rsum": None if ours is None else ours.rsum,
            "our_rsum_std": None if ours is None or pd.isna(ours.std) else ours.std,
            "our_seeds": None if ours is None else ours.seeds,
            "our_runs": None if ours is None else ours.runs,
            "difference": self.difference,
        }

    def cells(self) -> list[str]:
        """Return the row as text, in the order of COLUMNS."""
        row, ours = self.published, self.ours
        nets = "unknown" if row.nets is None else str(row.nets)
        backbone = f"{row.backbone} (doubtful)" if row.backbone_doubtful else row.backbone or "not stated"
        recalls = [f"{value:.1f}" for value in row.recalls]
        shown = [row.method, backbone, " ".join(recalls[:3]), " ".join(recalls[3:]), f"{row.rsum:.1f}"]
        shown += [row.source, nets, row.flags or "-"]
        if ours is None:
            return [*shown, "-", "-", "-", "-"]
        rsum = f"{ours.rsum:.1f}" + ("" if pd.isna(ours.std) else f" ± {ours.std:.1f}")
        return [*shown, rsum, str(ours.seeds), ours.runs, f"{self.difference:+.1f}"]


@dataclass(frozen=True)
class PublishedTable:
    """One table: results of one evaluation, noise ratio and unit, best published first."""

    dataset: str
    evaluation: str
    noise: float | None
    unit: str
    lines: Sequence[ComparedResult]

    @property
    def title(self) -> str:
        """Dataset, evaluation and noise in words."""
        if self.noise is None:
            noise = "natural noise"
        else:
            noise = "clean pairs" if self.noise == 0 else f"noise {self.noise:g} (unit: {self.unit})"
        return f"{self.dataset}, {self.evaluation}: {noise}"

    def cells(self) -> list[list[str]]:
        """Return the table as text, in the order of COLUMNS."""
        return [line.cells() for line in self.lines]


def published_tables(dataset: str, frame: pd.DataFrame | None) -> list[PublishedTable]:
    """Return the published results of `dataset` next to the runs of `frame` (of `load_runs`; None: no runs).

    Each table has one noise unit. Raises UserError for a dataset without published results.
    """
    if dataset not in EVALUATIONS:
        raise UserError(f"no published results for dataset {dataset!r}; available: {', '.join(EVALUATIONS)}")
    tables, everything = [], read_published()
    for evaluation in EVALUATIONS[dataset]:
        ours = [] if frame is None else our_results(frame, dataset, evaluation)
        rows = [row for row in everything if (row.dataset, row.evaluation) == (dataset, evaluation)]
        kinds = {(row.noise, row.unit) for row in rows}
        for noise, unit in sorted(kinds, key=lambda kind: (kind[0] or 0.0, _UNITS.index(kind[1]))):
            alike = sorted((row for row in rows if (row.noise, row.unit) == (noise, unit)), key=_order)
            lines = [line for row in alike for line in _lines(row, ours)]
            tables.append(PublishedTable(dataset, evaluation, noise, unit, lines))
    return tables


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
        found.append(
            Ours(
                method=str(first["method"]),
                backbone=str(first["backbone"]),
                noise=None if natural else float(first["noise"]),
                unit=str(first["unit"]) if natural or first["noise"] else CLEAN,
                runs=_runs(first.to_dict(), int(group["clean_pairs_given"].max())),
                rsum=float(group[column].mean()),
                std=float(group[column].std()),
                seeds=int(group["seed"].nunique()),
            )
        )
    return found


def _runs(row: dict[Any, Any], clean_pairs_given: int) -> str:
    """Return what distinguishes our runs beyond the columns of the table."""
    words = [] if row["variant"] == row["method"] else [str(row["variant"])]
    words += [str(row["backbone"])] if str(row["backbone"]).startswith("scan") else []
    words += [str(row["protocol"])] if row["noise"] else []
    words.append(f"budget {Budget(row['budget'], row['budget_unit'])}")
    words += [str(row["sizes"])] if row["sizes"] != PAPER_SIZES else []
    words += [str(row["conditions"])] if row["conditions"] else []
    words += [f"given {clean_pairs_given} clean pairs"] if clean_pairs_given else []
    return ", ".join(words)


def _lines(row: Published, ours: Sequence[Ours]) -> list[ComparedResult]:
    """Return the row with each matching result of ours, or alone."""
    return [ComparedResult(row, one) for one in _matches(row, ours)] or [ComparedResult(row, None)]


def _matches(row: Published, ours: Sequence[Ours]) -> list[Ours]:
    """Return our results with the same method, backbone, noise and unit. Papers do not state the variant of SCAN."""
    if row.backbone_doubtful:
        return []
    method = "triplet" if row.method in PLAIN_BACKBONES else row.method
    return [
        one
        for one in ours
        if (one.method, one.noise, one.unit) == (method, row.noise, row.unit) and _same_backbone(row, one.backbone)
    ]


def _same_backbone(row: Published, backbone: str) -> bool:
    if row.method == "scan":
        return backbone.partition("-")[0] == "scan"
    return backbone == row.backbone and (row.method not in PLAIN_BACKBONES or backbone == row.method)


def _order(row: Published) -> tuple[object, ...]:
    return -row.rsum, row.method, row.backbone, row.source
