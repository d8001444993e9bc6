"""Published results of a dataset at a glance: one row per method and backbone, one column per noise ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncbench.report.tables.versus_published import ComparedResult, PublishedTable

CLEAN_UNITS = ("clean", "natural")


@dataclass(frozen=True)
class PublishedSummary:
    """The results of one evaluation and noise unit: headings, then rows of text.

    Rows are in the order of the ratio that has the most results, best first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def published_summaries(tables: Sequence[PublishedTable]) -> list[PublishedSummary]:
    """Return a summary per evaluation and noise unit. Clean pairs are a column of each.

    A cell is the published rSum, or the lowest and the highest where sources differ, with our mean beside it.
    Misprints that sources or sums give away are left out.
    """
    found = []
    for evaluation in dict.fromkeys(table.evaluation for table in tables):
        mine = [table for table in tables if table.evaluation == evaluation]
        units = list(dict.fromkeys(table.unit for table in mine if table.unit not in CLEAN_UNITS))
        for unit in units or list(dict.fromkeys(table.unit for table in mine)):
            shown = [table for table in mine if table.unit == unit or (units and table.unit in CLEAN_UNITS)]
            found.append(_summary(evaluation, unit, shown))
    return found


def _summary(evaluation: str, unit: str, tables: Sequence[PublishedTable]) -> PublishedSummary:
    ratios = sorted({table.noise or 0.0 for table in tables})
    results: dict[tuple[str, str], dict[float, list[ComparedResult]]] = {}
    for table in tables:
        for line in table.lines:
            if not line.published.flags:
                key = (line.published.method, line.published.backbone)
                results.setdefault(key, {}).setdefault(table.noise or 0.0, []).append(line)
    # Methods with clean results only say nothing about this unit.
    noisy = [key for key, row in results.items() if unit in CLEAN_UNITS or any(row.keys() - {0.0})]
    counts = {ratio: sum(ratio in results[key] for key in noisy) for ratio in ratios if ratio or len(ratios) == 1}
    fullest = max(counts, key=lambda ratio: counts[ratio])
    ordered = sorted(noisy, key=lambda key: (-_best(results[key].get(fullest, ())), key))
    natural = tables[0].noise is None
    names = ["natural noise" if natural else "clean" if ratio == 0 else f"{ratio:g}" for ratio in ratios]
    rows = [
        [method, backbone or "not stated", *(_cell(results[method, backbone].get(ratio, ())) for ratio in ratios)]
        for method, backbone in ordered
    ]
    of = "" if unit in CLEAN_UNITS else f", noise unit: {unit}"
    return PublishedSummary(f"{tables[0].dataset}, {evaluation}{of}", ["method", "backbone", *names], rows)


def _best(lines: Sequence[ComparedResult]) -> float:
    return max((line.published.rsum for line in lines), default=0.0)


def _cell(lines: Sequence[ComparedResult]) -> str:
    if not lines:
        return "-"
    low, high = (bound(line.published.rsum for line in lines) for bound in (min, max))
    text = f"{low:.1f}" if low == high else f"{low:.1f}\N{EN DASH}{high:.1f}"
    ours = sorted({f"{line.ours.rsum:.1f}" for line in lines if line.ours is not None})
    return f"{text} (ours {', '.join(ours)})" if ours else text
