"""Published results next to ours: same method, backbone, evaluation, noise ratio and noise unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ncbench.errors import UserError
from ncbench.report.tables.comparisons import RECALLS
from ncbench.report.tables.our_results import Ours, our_results
from ncbench.report.tables.published import EVALUATIONS, UNKNOWN, Published, read_published
from ncbench.report.tables.published_filters import Filters, choices

COLUMNS = (
    "method",
    "backbone",
    "networks",
    "rSum",
    "i2t R@1, 5, 10",
    "t2i R@1, 5, 10",
    "our rSum",
    "seeds",
    "difference",
    "sources",
    "caveats",
)
NUMERIC_COLUMNS = (*COLUMNS[2:9],)
BRIEF_COLUMNS = ("method", "backbone", "rSum", "our rSum", "difference", "sources", "caveats")
"""Columns for narrow terminals."""

PLAIN_BACKBONES = ("sgr", "saf", "sgraf", "vse-infinity", "scan")
"""Published methods that are plain backbones, trained as by their authors; compared with our `triplet`."""

_UNITS = ("clean", "natural", "images", "captions", "unknown")


@dataclass(frozen=True)
class ComparedResult:
    """A published result, all `sources` that print it, what to know about it, and a matching one of ours, if any."""

    published: Published
    ours: Ours | None
    sources: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def unlike(self) -> list[str]:
        """In what the conditions of our runs differ from those of the published ones, or may differ."""
        row, ours = self.published, self.ours
        if ours is None:
            return []
        found = []
        if row.unit == UNKNOWN:
            found.append("the noise unit of the published result is unknown")
        if row.nets is None:
            found.append(f"how many networks the published result averages is unknown (ours: {ours.nets})")
        elif row.nets != ours.nets:
            found.append(f"the published result averages {row.nets} networks, ours {ours.nets}")
        if not ours.epochs:
            found.append("our budget is compute-matched, papers count epochs")
        if not ours.paper_sizes:
            found.append("our networks have other sizes")
        return found

    @property
    def difference(self) -> float | None:
        """Our rSum minus the published one; None without ours, or if the conditions are not alike."""
        return None if self.ours is None or self.unlike else self.ours.rsum - self.published.rsum

    @property
    def caveats(self) -> list[str]:
        """All that a reader must know: notes of the sources, doubts, and our runs with what is unlike in them."""
        found = list(self.notes)
        if self.published.backbone_doubtful:
            found.append("backbone doubtful: the paper labels methods SGRAF whose code trains SGR")
        if self.ours is not None:
            found.append(f"our runs: {self.ours.runs}")
            found += [f"not compared: {reason}" for reason in self.unlike]
        return found

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
            "sources": "; ".join(self.sources),
            "nets": row.nets,
            "flags": row.flags,
            "notes": "; ".join(self.notes),
            "our_rsum": None if ours is None else ours.rsum,
            "our_rsum_std": None if ours is None or pd.isna(ours.std) else ours.std,
            "our_seeds": None if ours is None else ours.seeds,
            "our_runs": None if ours is None else ours.runs,
            "difference": self.difference,
            "unlike": "; ".join(self.unlike),
        }


@dataclass(frozen=True)
class PublishedTable:
    """One table: results of one evaluation, noise ratio and unit, best published first.

    Cells refer to sources by number and to caveats by letter; `footnotes` spells them out.
    """

    dataset: str
    evaluation: str
    noise: float | None
    unit: str
    lines: Sequence[ComparedResult] = field(default_factory=tuple)

    @property
    def noise_in_words(self) -> str:
        """Noise ratio and unit in words."""
        if self.noise is None:
            return "natural noise"
        return "clean pairs" if self.noise == 0 else f"noise {self.noise:g} (unit: {self.unit})"

    @property
    def title(self) -> str:
        """Dataset, evaluation and noise in words."""
        return f"{self.dataset}, {self.evaluation}: {self.noise_in_words}"

    def cells(self, columns: Iterable[str] = COLUMNS) -> list[list[str]]:
        """Return `columns` of the table as text."""
        shown, sources, caveats = tuple(columns), self._sources(), self._caveats()
        rows = []
        for line in self.lines:
            row, ours = line.published, line.ours
            recalls = [f"{value:.1f}" for value in row.recalls]
            cells = {
                "method": row.method,
                "backbone": row.backbone or "not stated",
                "networks": "?" if row.nets is None else str(row.nets),
                "rSum": f"{row.rsum:.1f}",
                "i2t R@1, 5, 10": " ".join(recalls[:3]),
                "t2i R@1, 5, 10": " ".join(recalls[3:]),
                "our rSum": "-" if ours is None else f"{ours.rsum:.1f}{_deviation(ours)}",
                "seeds": "-" if ours is None else str(ours.seeds),
                "difference": "-" if line.difference is None else f"{line.difference:+.1f}",
                "sources": ", ".join(str(sources.index(source) + 1) for source in line.sources),
                "caveats": ", ".join(_letter(caveats.index(caveat)) for caveat in line.caveats) or "-",
            }
            rows.append([cells[column] for column in shown])
        return rows

    def footnotes(self) -> list[str]:
        """Return the sources and caveats that cells refer to, one a line."""
        numbered = [f"{number}: {source}" for number, source in enumerate(self._sources(), 1)]
        return [*numbered, *(f"{_letter(number)}: {caveat}" for number, caveat in enumerate(self._caveats()))]

    def _sources(self) -> list[str]:
        return list(dict.fromkeys(source for line in self.lines for source in line.sources))

    def _caveats(self) -> list[str]:
        return list(dict.fromkeys(caveat for line in self.lines for caveat in line.caveats))


def published_tables(dataset: str, frame: pd.DataFrame | None, filters: Filters | None = None) -> list[PublishedTable]:
    """Return the published results of `dataset` next to the runs of `frame` (of `load_runs`; None: no runs).

    Each table has one noise unit. A result that several sources print is one line. Raises UserError for a dataset
    without published results, and if `filters` leave none.
    """
    if dataset not in EVALUATIONS:
        raise UserError(f"no published results for dataset {dataset!r}; available: {', '.join(EVALUATIONS)}")
    filters = filters or Filters()
    everything = [row for row in read_published() if row.dataset == dataset]
    admitted = [row for row in everything if filters.admits(row)]
    if not admitted:
        raise UserError(f"no published result on {dataset} passes the filters; {choices(filters, everything)}")
    tables = []
    for evaluation in EVALUATIONS[dataset]:
        ours = [] if frame is None else our_results(frame, dataset, evaluation)
        rows = [row for row in admitted if row.evaluation == evaluation]
        kinds = {(row.noise, row.unit) for row in rows}
        for noise, unit in sorted(kinds, key=lambda kind: (kind[0] or 0.0, _UNITS.index(kind[1]))):
            merged = merge([row for row in rows if (row.noise, row.unit) == (noise, unit)])
            lines = [line for one in merged for line in _lines(one, ours)]
            tables.append(PublishedTable(dataset, evaluation, noise, unit, lines))
    return tables


def merge(rows: Sequence[Published]) -> list[ComparedResult]:
    """Return one result for all rows that print the same recalls for one method, best first.

    Rows that state different backbones are different results; rows that state none join the only one that does.
    """
    groups: dict[tuple[object, ...], list[Published]] = {}
    for row in sorted(rows, key=_order):
        groups.setdefault((row.method, row.recalls, row.rsum, row.noise, row.unit), []).append(row)
    merged = []
    for alike in groups.values():
        stated = list(dict.fromkeys(row.backbone for row in alike if row.backbone))
        for backbone in stated or [""]:
            mine = [row for row in alike if row.backbone == backbone or (not row.backbone and len(stated) == 1)]
            merged.append(_joined(backbone, mine))
        if len(stated) > 1 and any(not row.backbone for row in alike):
            merged.append(_joined("", [row for row in alike if not row.backbone]))
    return sorted(merged, key=lambda one: _order(one.published))


def _joined(backbone: str, rows: Sequence[Published]) -> ComparedResult:
    first = next((row for row in rows if row.backbone == backbone), rows[0])
    nets = {row.nets for row in rows if row.nets is not None}
    flagged = next((row for row in rows if row.flags), first)
    one = replace(first, nets=next(iter(nets)) if len(nets) == 1 else None, notes=flagged.notes)
    sources = list(dict.fromkeys(row.source for row in rows))
    notes = [f"{row.notes} ({row.source})" if len(rows) > 1 else row.notes for row in rows if row.notes]
    return ComparedResult(one, None, sources, list(dict.fromkeys(notes)))


def _lines(one: ComparedResult, ours: Sequence[Ours]) -> list[ComparedResult]:
    """Return the result with each matching one of ours, or alone."""
    return [replace(one, ours=mine) for mine in _matches(one.published, ours)] or [one]


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


def _deviation(ours: Ours) -> str:
    return "" if pd.isna(ours.std) else f" ± {ours.std:.1f}"


def _letter(number: int) -> str:
    """Return a, b, ... z, aa, ab, ..."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
